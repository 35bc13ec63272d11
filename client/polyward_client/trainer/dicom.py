"""DICOM files and series -> values and spacing; volumes turned to right-anterior-superior like NIfTI.

Only the tags listed here are parsed. DICOM PS3.3 C.7.6.2 gives the geometry, C.7.6.3.1.2 MONOCHROME1.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pydicom
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import DeflatedExplicitVRLittleEndian

from polyward_client.trainer.files import Unfit, check_plain
from polyward_client.trainer.volume import Affine, Values, turned, turned_extent

GEOMETRY = [
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
]
PIXELS = [
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "PixelData",
    "FloatPixelData",
]
MOST_SLICES = 4096
UNEVEN = 0.1  # of the usual distance: more than rounding, less than a missing slice


def extent(path: Path, dims: int) -> tuple[int, ...]:
    """Spatial size in the order in which `read` gives it: [rows, columns], or a volume in canonical order."""
    if path.is_dir():
        slices = _slices(path)
        rows, columns = _plane(slices[0])
        if dims == 2 and len(slices) == 1:
            return rows, columns
        shape, affine = (columns, rows, len(slices)), _affine(slices)
        return turned_extent(shape, affine)
    header = _header(path)
    rows, columns = _plane(header)
    frames = int(header.get("NumberOfFrames") or 1)
    return (rows, columns) if frames == 1 else (columns, rows, frames)


def read(path: Path, dims: int) -> tuple[Values, tuple[float, ...] | None]:
    """Values [channels, *spatial] and spacing in mm."""
    if path.is_dir():
        slices = _slices(path)
        if dims == 2 and len(slices) == 1:
            return read(Path(str(slices[0].filename)), dims)
        planes = [_values(Path(str(header.filename)))[0] for header in slices]  # each [rows, columns]
        volume = np.stack(planes, axis=-1).transpose(1, 0, 2)  # [columns, rows, slices]
        return turned(Nifti1Image(volume, _affine(slices)))  # type: ignore[no-untyped-call]
    values = _values(path)
    header = _header(path)
    plane = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")  # row distance, column distance
    if int(header.get("NumberOfFrames") or 1) == 1:
        return values, (float(plane[0]), float(plane[1])) if plane else None
    between = header.get("SpacingBetweenSlices") or header.get("SliceThickness")
    spacing = (float(plane[1]), float(plane[0]), float(between)) if plane and between else None
    return np.ascontiguousarray(values.transpose(0, 3, 2, 1)), spacing


def grid(folder: Path) -> tuple[tuple[int, int, int], Affine]:
    """A series' shape [columns, rows, slices], and its affine to mm, right-anterior-superior. Raises `Unfit`."""
    slices = _slices(folder)
    rows, columns = _plane(slices[0])
    return (columns, rows, len(slices)), _affine(slices)


def tags_of(path: Path, tags: list[str], *, pixels: bool = False) -> pydicom.Dataset:
    """These tags of one file and no other. Raises `Unfit`, `Problem` and what pydicom raises."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings would quote values
    check_plain(path)
    # pydicom would unpack such a file at once, whatever it unpacks to
    if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise Unfit("is packed as a whole (deflated); expected DICOM of which at most the pixels are compressed")
    return pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags)


def _header(path: Path) -> pydicom.Dataset:
    return tags_of(path, GEOMETRY)


def _plane(header: pydicom.Dataset) -> tuple[int, int]:
    if int(header.get("SamplesPerPixel") or 1) not in (1, 3):
        raise Unfit("stores an odd number of values for each pixel; expected 1 or 3")
    return int(header.Rows), int(header.Columns)


def _values(path: Path) -> Values:
    """[channels, rows, columns], or [1, frames, rows, columns]; rescaled, dark to bright."""
    dataset = tags_of(path, GEOMETRY + PIXELS, pixels=True)
    raw = dataset.pixel_array
    meaning = str(dataset.PhotometricInterpretation)
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            raise Unfit("is a film in colour; expected one image or a grey volume")
        return np.ascontiguousarray(np.asarray(raw, np.float32).transpose(2, 0, 1))
    if not meaning.startswith("MONOCHROME"):
        raise Unfit("stores colours as a table; expected grey or RGB values")
    if meaning == "MONOCHROME1":  # the smallest value is white
        raw = (-1 if int(dataset.PixelRepresentation) else 2 ** int(dataset.BitsStored) - 1) - raw.astype(np.int64)
    return np.asarray(apply_rescale(raw, dataset), np.float32)[None]


def _slices(folder: Path) -> list[pydicom.Dataset]:
    """The headers of one series, in the order of their positions along the slice normal. Raises `Unfit`."""
    plain = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    files = sorted(islice(plain, MOST_SLICES + 1))  # not more: a folder may hold millions
    if not files or len(files) > MOST_SLICES:
        found = "no files" if not files else f"more than {MOST_SLICES} files"
        raise Unfit(f"is a folder of {found}; expected 1 to {MOST_SLICES} DICOM slices")
    home = folder.resolve()
    if any(file.is_symlink() and not file.resolve().is_relative_to(home) for file in files):
        raise Unfit("holds a link that leads out of it; expected slices that stay in the folder")
    headers = [_header(file) for file in files]
    if len({str(header.get("SeriesInstanceUID")) for header in headers}) > 1:
        raise Unfit("holds slices of several series; expected one series in a folder")
    if len({_plane(header) for header in headers}) > 1:
        raise Unfit("holds slices of different sizes; expected one size")
    if any("ImagePositionPatient" not in h or "ImageOrientationPatient" not in h for h in headers):
        if any("InstanceNumber" not in header for header in headers):
            raise Unfit("holds slices without position or number; their order is unknown")
        return sorted(headers, key=lambda header: int(header.InstanceNumber))
    normal = np.cross(*_directions(headers[0]))
    return sorted(headers, key=lambda header: float(normal @ np.asarray(header.ImagePositionPatient, float)))


def _directions(header: pydicom.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors of growing column index and growing row index."""
    cosines = np.asarray(header.ImageOrientationPatient, float)
    return cosines[:3], cosines[3:]


def _affine(slices: list[pydicom.Dataset]) -> Affine:
    """Indices (column, row, slice) -> mm, right-anterior-superior (DICOM's axes point left and posterior)."""
    first = slices[0]
    plane = first.get("PixelSpacing") or (1.0, 1.0)
    affine = np.eye(4)
    if "ImagePositionPatient" not in first or "ImageOrientationPatient" not in first:
        affine[:3, :3] = np.diag([float(plane[1]), float(plane[0]), float(first.get("SliceThickness") or 1.0)])
        return affine
    along_columns, along_rows = _directions(first)
    places = np.asarray([header.ImagePositionPatient for header in slices], float)
    steps = np.diff(places, axis=0)
    if len(slices) > 1:
        distances = np.linalg.norm(steps, axis=1)
        usual = float(np.median(distances))
        if usual == 0 or np.abs(distances - usual).max() > UNEVEN * usual:
            raise Unfit("lacks slices, or has two at one position; expected even distances")
    normal = np.cross(along_columns, along_rows) * float(first.get("SliceThickness") or 1.0)
    affine[:3, 0] = along_columns * float(plane[1])
    affine[:3, 1] = along_rows * float(plane[0])
    affine[:3, 2] = steps.mean(axis=0) if len(slices) > 1 else normal
    affine[:3, 3] = places[0]
    affine[:2] *= -1
    return affine
