"""One image or mask file -> numpy values. The first step of the data flow, and the only module that opens images.

Every reader looks at the header before it decodes, so a small file that claims to be huge is refused. DICOM files are
read by a list of tags that describe pixels and geometry: names and dates are never parsed, hence never in a message.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Literal

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray
from PIL import Image
from pydicom.errors import BytesLengthException, InvalidDicomError

from polyward_client.trainer import dicom
from polyward_client.trainer.files import DEFLATED, LARGEST, WIDEST, Unfit, check_plain
from polyward_client.trainer.volume import Values, open_nifti, turned, turned_extent
from polyward_shared.problems import Problem

Form = Literal["raster", "nifti", "dicom", "numpy"]

LONGEST = 1 << 31  # of a side as a message tells it
SUFFIXES: dict[str, Form] = {
    ".png": "raster",
    ".jpg": "raster",
    ".jpeg": "raster",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".dcm": "dicom",
    ".npy": "numpy",
    ".npz": "numpy",
}
# What the four libraries raise for a file that is not what its name says; a header of numpy's is parsed as Python.
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    SyntaxError,
    RuntimeError,
    struct.error,
    TokenError,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    InvalidDicomError,
    BytesLengthException,
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as stored: `values` [channels, *spatial], `spacing` in mm for each spatial axis where the file says."""

    values: Values
    spacing: tuple[float, ...] | None = None


def extent(path: Path, dims: int) -> tuple[int, ...]:
    """The spatial size [dims] from the header alone. Raises `Problem`."""
    form = _form(path)
    try:
        match form:
            case "raster":
                with Image.open(path, formats=("PNG", "JPEG")) as image:
                    size: tuple[int, ...] = (image.height, image.width)
                    _bounded(path, (*size, len(image.getbands())))
            case "nifti":
                size = _nifti_extent(path)
            case "dicom":
                size = dicom.extent(path, dims)
            case "numpy":
                size = _numpy_shape(path)
                _bounded(path, size)
                size = size[1:] if len(size) == dims + 1 else size
    except UNREADABLE as error:
        raise _unreadable(path, form, error) from None
    _bounded(path, size)
    return _in_dims(path, size, dims)


def read_image(path: Path, dims: int) -> Picture:
    """The image with `dims` spatial axes: volumes in right-anterior-superior order. Raises `Problem`."""
    size = extent(path, dims)
    form = _form(path)
    spacing: tuple[float, ...] | None = None
    try:
        match form:
            case "raster":
                values = _raster(path)
            case "nifti":
                values, spacing = turned(open_nifti(path))
            case "dicom":
                values, spacing = dicom.read(path, dims)
            case "numpy":
                values = _numpy(path, dims)
    except UNREADABLE as error:
        raise _unreadable(path, form, error) from None
    if not np.isfinite(values).all():
        raise Problem(path.name, "holds values that are not finite numbers", remedy="export the image again")
    return Picture(values.reshape((values.shape[0], *size)), spacing[:dims] if spacing else None)


def read_mask(path: Path, dims: int, *, classes: int, ignore: int | None = None) -> NDArray[np.uint8]:
    """The labels [*spatial]: 0 for background, then 1 to `classes`; with one class, any second value. `Problem`s.

    `ignore` is one more value that may occur, where nobody judged.
    """
    size = extent(path, dims)
    form = _form(path)
    try:
        if form == "raster":
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                values: NDArray[np.generic] = np.asarray(image)
            if values.ndim == 3 and (values == values[..., :1]).all():
                values = values[..., 0]
        else:
            found = turned(open_nifti(path))[0] if form == "nifti" else None
            found = dicom.read(path, dims)[0] if form == "dicom" else found
            found = _numpy(path, dims) if found is None else found
            values = found[0].reshape(size)
    except UNREADABLE as error:
        raise _unreadable(path, form, error) from None
    if values.shape != size:
        raise Problem(path.name, "is a mask in colour", expected="one number for each pixel")
    labels = np.unique(values)
    if classes == 1 and ignore is None and labels.size <= 2 and labels[0] == 0:
        return np.asarray(values != 0, np.uint8)
    if not np.isin(labels, [*range(classes + 1), ignore or 0]).all():
        shown = ", ".join(f"{float(label):g}" for label in labels[:6]) + (", ..." if labels.size > 6 else "")
        raise Problem(
            path.name,
            f"is a mask with the values {shown}",
            expected="0 and one other value" if classes == 1 else f"whole numbers from 0 to {classes}",
            remedy="store the mask without compression loss, 0 for background",
        )
    return np.asarray(values, np.uint8)


def _form(path: Path) -> Form:
    """What the name says. Raises `Problem`, also for what is neither a folder nor a plain file."""
    name = path.name.lower()
    form = next((form for suffix, form in SUFFIXES.items() if name.endswith(suffix)), None)
    try:
        folder = path.is_dir()
        if not folder:
            check_plain(path)
    except OSError as error:
        raise Problem(path.name, f"cannot be opened ({type(error).__name__})", remedy="correct the path") from None
    if folder or (form is None and not path.suffix):
        return "dicom"
    if form is None:
        raise Problem(
            path.name, "is of an unknown kind", expected=f"one of {', '.join(SUFFIXES)}, or a folder of DICOM slices"
        )
    return form


def _unreadable(path: Path, form: Form, error: Exception) -> Problem:
    """Only the error's type is told: a library's text may quote what stands in the file."""
    kind = {"raster": "PNG or JPEG", "nifti": "NIfTI", "dicom": "DICOM", "numpy": "npy or npz"}[form]
    if isinstance(error, Unfit):
        found, _, expected = str(error).partition("; expected ")
        return Problem(path.name, found, expected=expected, remedy="export the image again, or leave its row out")
    if isinstance(error, Image.DecompressionBombError):
        return Problem(path.name, "states a size that is beyond all bounds", expected=f"at most {LARGEST:,} values")
    return Problem(
        path.name,
        f"cannot be read ({type(error).__name__})",
        expected=f"a {kind} file that is whole",
        remedy="export the image again, or leave its row out",
    )


def _bounded(path: Path, shape: tuple[int, ...]) -> None:
    if math.prod(shape) > LARGEST or min(shape, default=0) <= 0:
        sides = (str(side) if abs(side) < LONGEST else "more" for side in shape)
        raise Problem(
            path.name,
            f"states a size of {' x '.join(sides)}",
            expected=f"at most {LARGEST:,} values",
            remedy="export the image at a lower resolution",
        )


def _in_dims(path: Path, size: tuple[int, ...], dims: int) -> tuple[int, ...]:
    """The same size with exactly `dims` axes: axes of length 1 may go, the last first."""
    sides = list(size)
    while len(sides) > dims and 1 in sides:
        del sides[len(sides) - 1 - sides[::-1].index(1)]
    if len(sides) != dims:
        raise Problem(path.name, f"has {len(sides)} dimensions", expected=f"{dims}, as the study's image.size")
    return tuple(sides)


def _raster(path: Path) -> Values:
    with Image.open(path, formats=("PNG", "JPEG")) as image:
        if image.mode in {"1", "L", "LA"}:
            return np.asarray(image.convert("L"), np.float32)[None]
        if image.mode.startswith("I"):
            return np.asarray(image, np.float32)[None]
        return np.ascontiguousarray(np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1))


def _nifti_extent(path: Path) -> tuple[int, ...]:
    image = open_nifti(path)
    return turned_extent(image.shape, image.affine)


def _numpy_shape(path: Path) -> tuple[int, ...]:
    """From the header alone: an npz file could unpack to any size."""
    with _numpy_file(path) as (file, room):
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.kind not in "biuf" or dtype.itemsize > WIDEST:
        raise Unfit("holds no plain numbers; expected whole or floating-point numbers of at most 64 bits")
    if LARGEST >= math.prod(shape) > room // dtype.itemsize:
        raise Unfit("states more values than it can hold")
    return tuple(shape)


@contextmanager
def _numpy_file(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The one array as a stream, and the most bytes that can come out of it."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            yield file, check_plain(path)
        return
    with zipfile.ZipFile(path) as archive:
        part = archive.getinfo(_member(path, archive.namelist()) + ".npy")
        if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unfit("is packed in a way that numpy does not use; expected what np.savez_compressed writes")
        with archive.open(part) as stream:
            yield stream, check_plain(path) * DEFLATED


def _member(path: Path, names: list[str]) -> str:
    keys = [name.removesuffix(".npy") for name in names]
    if "image" in keys or len(keys) == 1:
        return "image" if "image" in keys else keys[0]
    raise Problem(path.name, f"holds the arrays {sorted(keys)[:5]}", expected="one array, or one with the name image")


def _numpy(path: Path, dims: int) -> Values:
    with _numpy_file(path) as (file, _):
        values = np.asarray(np.lib.format.read_array(file, allow_pickle=False), np.float32)
    return values[None] if values.ndim == dims else values
