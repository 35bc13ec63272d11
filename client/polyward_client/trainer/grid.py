"""Where the answer for an image file goes: maps on the very grid of the file, as a file that a viewer opens beside it.

A NIfTI file gives its affine, a DICOM series that of its slices. A PNG, JPEG or single DICOM image has rows and columns
alone, so its mask is a PNG whose pixels are the labels' numbers, shown in colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image, save
from numpy.typing import NDArray
from PIL import Image as Raster

from polyward_client.trainer import dicom
from polyward_client.trainer.images import UNREADABLE, Picture
from polyward_client.trainer.volume import Affine, Values, as_stored, open_nifti, turned_extent
from polyward_shared.problems import Problem

# Background black, then the colours of Okabe and Ito, which colour-blind readers can tell apart.
COLOURS: tuple[tuple[int, int, int], ...] = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
COLOURS += ((204, 121, 167), (255, 255, 255))


@dataclass(frozen=True, slots=True)
class Grid:
    """`shape` is that of the stored volume, or of its first three axes, and `affine` its own; None for a flat image."""

    size: tuple[int, ...]  # of the image as it is read
    shape: tuple[int, ...] | None = None
    affine: Affine | None = None


def grid_of(path: Path, picture: Picture) -> Grid:
    """The grid of the file that `picture` was read from. Raises `Problem`."""
    size = picture.values.shape[1:]
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            stored = open_nifti(path)
            return Grid(size, (*stored.shape, 1, 1)[:3], np.asarray(stored.affine, float))
        if path.is_dir() and len(size) == 3:
            return Grid(size, *dicom.grid(path))
    except UNREADABLE as error:
        raise Problem(path.name, f"its geometry cannot be read ({type(error).__name__})") from None
    if len(size) == 2:
        return Grid(size)
    return Grid(size, size, np.diag([*(picture.spacing or (1.0,) * 3), 1.0]))


def write_labels(stem: Path, labels: NDArray[np.uint8], grid: Grid) -> Path:
    """Labels [*spatial], as the image is read -> `<stem>.nii.gz`, or `<stem>.png` for a flat image."""
    if grid.affine is None or grid.shape is None:
        image = Raster.fromarray(labels, "P")
        image.putpalette(
            np.asarray([COLOURS[n % len(COLOURS)] if n else COLOURS[0] for n in range(256)], "u1").tobytes()
        )
        return _saved(image, stem)
    path = stem.with_name(f"{stem.name}.nii.gz")
    save(Nifti1Image(_back(labels, grid), grid.affine), path)  # type: ignore[no-untyped-call]
    return path


def write_values(stem: Path, values: Values, grid: Grid) -> Path:
    """Values [channels, *spatial] -> `<stem>.nii.gz` with the channels last, or `<stem>.npz` for a flat image."""
    if grid.affine is None or grid.shape is None:
        path = stem.with_name(f"{stem.name}.npz")
        np.savez_compressed(path, image=values)
        return path
    path = stem.with_name(f"{stem.name}.nii.gz")
    stored = np.stack([_back(channel, grid) for channel in values], axis=-1)
    save(Nifti1Image(stored[..., 0] if len(values) == 1 else stored, grid.affine), path)  # type: ignore[no-untyped-call]
    return path


def _back(values: NDArray[np.generic], grid: Grid) -> NDArray[np.generic]:
    """[*spatial], as the image is read -> as its file stores it."""
    assert grid.affine is not None  # noqa: S101  # its callers asked
    assert grid.shape is not None  # noqa: S101
    return as_stored(values.reshape(turned_extent(grid.shape, grid.affine)), grid.affine)


def _saved(image: Raster.Image, stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.png")
    image.save(path)
    return path
