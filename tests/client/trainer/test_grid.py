"""Masks lie on the very grid of the file that they belong to."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from polyward_client.trainer.grid import grid_of, write_labels, write_values
from polyward_client.trainer.images import read_image, read_mask
from tests.client.trainer.test_images import write_series

WAYS = [*itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))]


def affine_of(way: tuple[tuple[int, ...], tuple[int, ...]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The voxel axes lie along the axes `way[0]` of the patient, forwards or backwards; 1, 2 and 3 mm apart."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (target, sign) in enumerate(zip(*way, strict=True)):
        affine[target, axis] = sign * (axis + 1)
    affine[:3, 3] = [7, -8, 9]
    return affine


@pytest.mark.parametrize("way", WAYS)
def test_a_volume_in_any_orientation_gets_its_own_voxels_back(
    tmp_path: Path, way: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    path, affine = tmp_path / "a.nii.gz", affine_of(way)
    labels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    nibabel.save(Nifti1Image(labels, affine), path)  # type: ignore[no-untyped-call]
    picture = read_image(path, 3)
    written = nibabel.load(write_labels(tmp_path / "mask", picture.values[0].astype(np.uint8), grid_of(path, picture)))
    assert isinstance(written, Nifti1Image)
    assert np.array_equal(written.affine, affine)
    assert np.array_equal(np.asarray(written.dataobj), labels)
    assert written.header.get_zooms() == (1.0, 2.0, 3.0)  # type: ignore[no-untyped-call]


def test_a_series_of_slices_gets_a_volume_in_its_own_place(tmp_path: Path) -> None:
    volume = np.arange(3 * 4 * 5).reshape(3, 4, 5)  # slices, rows, columns
    write_series(tmp_path / "ct", volume)
    picture = read_image(tmp_path / "ct", 3)
    path = write_values(tmp_path / "values", picture.values, grid_of(tmp_path / "ct", picture))
    written = nibabel.load(path)
    assert isinstance(written, Nifti1Image)
    assert np.array_equal(np.asarray(written.dataobj), volume.transpose(2, 1, 0))
    assert np.array_equal(written.affine[:3, :3], np.diag([-1, -2, 3]))  # DICOM points left and back
    assert np.array_equal(read_image(path, 3).values, picture.values)


def test_a_flat_image_gets_a_png_that_reads_as_a_mask(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png", 2)
    labels = np.asarray([[0, 1, 2], [2, 0, 1]], np.uint8)
    path = write_labels(tmp_path / "a.mask", labels, grid_of(tmp_path / "a.png", picture))
    assert np.array_equal(read_mask(path, 2, classes=2), labels)
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
        assert image.convert("RGB").getpixel((1, 0)) == (230, 159, 0)


def test_a_slice_stored_as_a_volume_keeps_its_third_axis(tmp_path: Path) -> None:
    path = tmp_path / "slice.nii"
    nibabel.save(Nifti1Image(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), np.eye(4)), path)  # type: ignore[no-untyped-call]
    picture = read_image(path, 2)
    written = nibabel.load(write_labels(tmp_path / "m", picture.values[0].astype(np.uint8), grid_of(path, picture)))
    assert isinstance(written, Nifti1Image)
    assert np.asarray(written.dataobj).tolist() == np.arange(6).reshape(2, 3, 1).tolist()
