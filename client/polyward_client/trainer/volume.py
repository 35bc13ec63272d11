"""Volumes as stored -> right-anterior-superior order, the same for NIfTI and DICOM."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

Values = NDArray[np.float32]
Affine = NDArray[np.float64]  # voxel indices -> mm, [4, 4]


def open_nifti(path: Path) -> SpatialImage:
    """The header; values are read when asked for."""
    image = nibabel.load(path)
    if not isinstance(image, SpatialImage):
        raise TypeError("not a volume")
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
