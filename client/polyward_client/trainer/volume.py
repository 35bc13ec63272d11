"""Volumes as stored -> right-anterior-superior order, the same for NIfTI and DICOM."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from polyward_client.trainer.files import DEFLATED, LARGEST, WIDEST, Unfit, check_plain

Scalar = TypeVar("Scalar", bound=np.generic)
Values = NDArray[np.float32]
Affine = NDArray[np.float64]  # voxel indices -> mm, [4, 4]
FURTHEST = 64 << 20  # bytes before the values: the header and what programs keep behind it
SMALLEST = 1e-12  # cubic millimetres of a voxel


def open_nifti(path: Path) -> SpatialImage:
    """The header; values are read when asked for. Raises `Unfit`, and what nibabel and gzip raise.

    Only the header's fixed part is looked at. nibabel would also read the extensions behind it, of which each states
    its own length: up to two gibibytes, of which a compressed file takes two thousandths.
    """
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if packed else path.open("rb") as file:
        start = file.read(Nifti2Header.sizeof_hdr)
    second = Nifti2Header.sizeof_hdr in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    kind = Nifti2Header if second else Nifti1Header
    header: Any = kind(start[: kind.sizeof_hdr])  # type: ignore[no-untyped-call]
    shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), float(header["vox_offset"])
    if not header.is_single or bytes(header["magic"].item())[:3] not in (b"n+1", b"n+2"):
        raise Unfit("is half of a pair of files; expected one NIfTI file")
    if dtype.kind not in "biuf" or dtype.itemsize > WIDEST:
        raise Unfit("holds no plain numbers; expected whole or floating-point numbers of at most 64 bits")
    if not (math.prod(shape) <= LARGEST and min(shape, default=0) > 0):
        raise Unfit(f"states a size of {' x '.join(map(str, shape))}; expected at most {LARGEST:,} values")
    if not 0 <= offset <= FURTHEST:
        raise Unfit("states that its values begin where none can be")
    if offset + math.prod(shape) * dtype.itemsize > check_plain(path) * (DEFLATED if packed else 1):
        raise Unfit("states more values than it can hold")
    affine: Affine = header.get_best_affine().astype(np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < SMALLEST:
        raise Unfit("states an orientation that no volume can have")
    values = ArrayProxy(path, (shape, dtype, int(offset), *header.get_slope_inter()))  # type: ignore[no-untyped-call]
    image: SpatialImage = (Nifti2Image if second else Nifti1Image)(values, affine, header)  # type: ignore[no-untyped-call]
    return image


def turned_extent(shape: tuple[int, ...], affine: Affine) -> tuple[int, ...]:
    """The spatial size [3] of a volume of this shape once it is turned."""
    target = nibabel.io_orientation(affine)[:, 0].astype(int)  # type: ignore[no-untyped-call]
    sides = (*shape[:3], 1, 1, 1)[:3]
    return tuple(sides[int(np.flatnonzero(target == axis)[0])] for axis in range(3))


def turned(image: SpatialImage) -> tuple[Values, tuple[float, ...]]:
    """Values [channels, x, y, z] with growing indices to the right, front and top of the patient; voxel sides in mm."""
    canonical = nibabel.as_closest_canonical(image)  # type: ignore[no-untyped-call]
    values = np.asarray(canonical.dataobj, np.float32)
    values = values.reshape((*values.shape, 1, 1, 1)[: max(3, values.ndim)])
    channels = np.moveaxis(values.reshape((*values.shape[:3], -1)), -1, 0)
    return np.ascontiguousarray(channels), tuple(float(side) for side in canonical.header.get_zooms()[:3])


def as_stored(values: NDArray[Scalar], affine: Affine) -> NDArray[Scalar]:
    """Values [x, y, z, ...] in right-anterior-superior order -> in the order of a file with this affine."""
    straight = np.asarray([[0, 1], [1, 1], [2, 1]])
    back = nibabel.orientations.ornt_transform(straight, nibabel.io_orientation(affine))  # type: ignore[no-untyped-call]
    found: NDArray[Scalar] = nibabel.apply_orientation(values, back)  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(found)
