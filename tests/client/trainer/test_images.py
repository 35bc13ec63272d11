"""Every file format gives the values that were written, and nothing unsafe or private comes through."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from polyward_client.trainer.images import extent, read_image, read_mask
from polyward_shared.problems import Problem

PATIENT = "Doe^Jane"


def write_dicom(path: Path, values: np.ndarray[Any, Any], **tags: Any) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientName = PATIENT
    dataset.SeriesInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.PixelData = values.astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)


def write_series(folder: Path, volume: np.ndarray[Any, Any], *, skip: int | None = None) -> None:
    """`volume` [slices, rows, columns], written in a shuffled order of names, 3 mm apart, rows 2 mm, columns 1 mm."""
    folder.mkdir()
    for place, plane in enumerate(volume):
        if place != skip:
            write_dicom(
                folder / f"{(place * 7) % 10}.dcm",
                plane,
                ImagePositionPatient=[0, 0, 3.0 * place],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[2.0, 1.0],
                InstanceNumber=place,
            )


def test_png_grey_and_colour(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey, grey + 1, grey + 2], -1)).save(tmp_path / "colour.png")
    assert np.array_equal(read_image(tmp_path / "grey.png", 2).values, grey[None])
    assert np.array_equal(read_image(tmp_path / "colour.png", 2).values[2], grey + 2)
    assert extent(tmp_path / "colour.png", 2) == (3, 4)


def test_png_of_16_bits_keeps_its_values(tmp_path: Path) -> None:
    values = np.array([[0, 40000], [65535, 1]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.array_equal(read_image(tmp_path / "deep.png", 2).values[0], values)


def test_jpeg_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 6), 100, np.uint8)).save(tmp_path / "a.jpg")
    assert np.allclose(read_image(tmp_path / "a.jpg", 2).values, 100, atol=2)


def test_nifti_is_turned_to_right_anterior_superior(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    leftward = np.diag([-1.5, 2.0, 3.0, 1.0])  # the first axis runs from right to left
    nibabel.save(nibabel.Nifti1Image(values, leftward), tmp_path / "v.nii.gz")  # type: ignore[no-untyped-call]
    found = read_image(tmp_path / "v.nii.gz", 3)
    assert np.array_equal(found.values[0], values[::-1])
    assert found.spacing == (1.5, 2.0, 3.0)


def test_nifti_with_swapped_axes_states_the_size_that_it_is_read_with(tmp_path: Path) -> None:
    swapped = np.array([[0, 0, 2, 0], [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]], float)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), swapped),  # type: ignore[no-untyped-call]
        tmp_path / "v.nii",
    )
    assert extent(tmp_path / "v.nii", 3) == (4, 2, 3) == read_image(tmp_path / "v.nii", 3).values.shape[1:]


def test_nifti_with_a_fourth_axis_has_channels(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.float32).reshape(2, 3, 4, 2)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii")  # type: ignore[no-untyped-call]
    assert np.array_equal(read_image(tmp_path / "v.nii", 3).values[1], values[..., 1])


def test_dicom_is_rescaled(tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, 1000]])
    write_dicom(tmp_path / "a.dcm", values, RescaleSlope=2, RescaleIntercept=-1024, PixelSpacing=[0.5, 0.25])
    found = read_image(tmp_path / "a.dcm", 2)
    assert np.array_equal(found.values[0], values * 2 - 1024)
    assert found.spacing == (0.5, 0.25)


def test_dicom_monochrome1_becomes_dark_to_bright(tmp_path: Path) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    write_dicom(tmp_path / "a.dcm", np.array([[0, 4095]]), **tags)
    assert np.array_equal(read_image(tmp_path / "a.dcm", 2).values[0], [[4095, 0]])


def test_dicom_series_is_sorted_by_position(tmp_path: Path) -> None:
    volume = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    write_series(tmp_path / "s", volume)
    found = read_image(tmp_path / "s", 3)
    wanted = volume.transpose(2, 1, 0)[::-1, ::-1]  # DICOM points left and posterior, the result right and anterior
    assert np.array_equal(found.values[0], wanted)
    assert found.spacing == (1.0, 2.0, 3.0)
    assert extent(tmp_path / "s", 3) == (3, 2, 5)


def test_dicom_series_with_a_missing_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "s", np.zeros((5, 2, 3)), skip=2)
    with pytest.raises(Problem, match="lacks slices"):
        read_image(tmp_path / "s", 3)


def test_dicom_series_with_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "s", np.zeros((3, 2, 3)))
    write_series(tmp_path / "elsewhere", np.zeros((4, 2, 3)))
    (tmp_path / "t").symlink_to("s")
    (tmp_path / "s" / "0.dcm").rename(tmp_path / "s" / ".0")
    (tmp_path / "s" / "8.dcm").symlink_to(".0")
    assert extent(tmp_path / "s", 3) == extent(tmp_path / "t", 3) == (3, 2, 3)  # links that stay inside
    (tmp_path / "s" / "1.dcm").symlink_to(tmp_path / "elsewhere" / "1.dcm")
    for look in (extent, read_image):
        with pytest.raises(Problem, match="holds a link that leads out of it; expected slices that stay"):
            look(tmp_path / "s", 3)


def test_no_name_of_a_patient_appears(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", np.zeros((2, 2)), BitsAllocated=7)
    with pytest.raises(Problem) as caught:
        read_image(tmp_path / "a.dcm", 2)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_numpy_files(tmp_path: Path, name: str) -> None:
    values = np.arange(8).reshape(2, 2, 2)
    if name.endswith("npy"):
        np.save(tmp_path / name, values)
    else:
        np.savez(tmp_path / name, image=values, other=1)
    assert np.array_equal(read_image(tmp_path / name, 2).values, values)
    assert read_image(tmp_path / name, 3).values.shape == (1, 2, 2, 2)
    assert extent(tmp_path / name, 2) == (2, 2)


def test_numpy_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(Problem, match="holds no plain numbers"):
        read_image(tmp_path / "a.npy", 2)


def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4)
    huge = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    huge.set_data_shape((30000, 30000, 30000))  # type: ignore[no-untyped-call]
    (tmp_path / "bomb.nii").write_bytes(bytes(huge.binaryblock) + b"\0" * 4)
    for name, dims in (("bomb.png", 2), ("bomb.nii", 3)):
        with pytest.raises(Problem, match=r"states a size|DecompressionBomb"):
            read_image(tmp_path / name, dims)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1.0, np.nan]]))
    with pytest.raises(Problem, match="not finite"):
        read_image(tmp_path / "a.npy", 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.png", b"text"), ("a.nii", b"text"), ("a.dcm", b"text"), ("a.npy", b"text"), ("a.npz", b"text")],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Problem, match="cannot be read"):
        read_image(tmp_path / name, 2)


def test_a_torn_png_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(Problem, match="cannot be read"):
        read_image(tmp_path / "a.png", 2)


def test_unknown_kind_and_wrong_dimensions(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(Problem, match="unknown kind"):
        read_image(tmp_path / "a.txt", 2)
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2, 2)))
    with pytest.raises(Problem, match="dimensions"):
        read_image(tmp_path / "a.npy", 2)


def test_masks(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "one.png")
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "two.png")
    assert read_mask(tmp_path / "one.png", 2, classes=1).tolist() == [[0, 1]]
    assert read_mask(tmp_path / "two.png", 2, classes=2).tolist() == [[0, 1, 2]]
    with pytest.raises(Problem, match="values 0, 1, 2"):
        read_mask(tmp_path / "two.png", 2, classes=1)
    with pytest.raises(Problem, match="whole numbers from 0 to 2"):
        read_mask(tmp_path / "one.png", 2, classes=2)
