"""DICOM files -> the series that are used; no patient's name or number gets anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid

from polyward_client.trainer.images import read_image
from polyward_client.trainer.intake.found import Survey
from polyward_client.trainer.intake.pseudonyms import keyed, tabled
from polyward_client.trainer.intake.series import Wanted, find_series
from polyward_client.trainer.intake.walk import files_below, recognised
from polyward_shared.problems import Problem
from tests.client.trainer.test_images import write_dicom


def series(folder: Path, slices: int, *, patient: str = "77001", apart: float = 3.0, **tags: Any) -> None:
    """A series of its own, `apart` mm between slices; `tags` replace what it states."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = generate_uid()
    for place in range(slices):
        stated: dict[str, Any] = {
            "PatientName": "Doe^Jane",
            "PatientID": patient,
            "StudyInstanceUID": f"1.2.{patient}",
            "SeriesInstanceUID": uid,
            "SOPInstanceUID": generate_uid(),
            "Modality": "CT",
            "SeriesDescription": f"thorax {apart:g} mm",
            "ImagePositionPatient": [0, 0, apart * place],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [0.5, 0.5],
            "RescaleSlope": 2,
            "RescaleIntercept": -1000,
        }
        write_dicom(folder / f"{uid}.{place}.dcm", np.full((4, 6), 300), **(stated | tags))


def find(root: Path, tmp_path: Path, **wanted: Any) -> Survey:
    names = files_below(root, tmp_path / "state")
    return find_series(root, names, Wanted(**wanted), keyed(tmp_path / "secret"), lambda done, of: None)


def test_of_a_study_the_series_with_most_slices(tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / "a" / "thin", 4)
    series(root / "a" / "thick", 3, apart=5)
    series(root / "a" / "scout", 9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series(root / "b" / "mr", 3, patient="77002", Modality="MR")
    (root / "notes.txt").write_text("77001 is Jane Doe")
    assert recognised(root, files_below(root, tmp_path)) == "dicom"
    found = find(root, tmp_path)
    assert [item.path for item in found.found] == ["a/thin", "b/mr"]
    assert "4 series: 3 CT, 1 MR" in found.notes
    assert "2 series: axial volumes, spacing 0.5 x 0.5 x 3 mm" in found.notes
    assert [item.path for item in find(root, tmp_path, modality="ct", description="5 mm").found] == ["a/thick"]
    assert [item.path for item in find(root, tmp_path, choice="all").found] == ["a/thick", "a/thin", "b/mr"]
    picture = read_image(root / "a" / "thin", 3)
    assert picture.spacing == (0.5, 0.5, 3.0)
    assert (picture.values == 300 * 2 - 1000).all()


def test_a_patient_is_a_keyed_hash_that_stays_the_same(tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / "one", 1)
    series(root / "two", 1)
    series(root / "three", 1, patient="77002")
    first = {item.path.split("/")[0]: item.patient for item in find(root, tmp_path).found}
    assert first["one"] == first["two"] != first["three"]
    assert first == {item.path.split("/")[0]: item.patient for item in find(root, tmp_path).found}
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert keyed(tmp_path / "other")("77001") != first["one"]  # without the secret there is no way to it
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(Problem, match="other users may read"):
        find(root, tmp_path)


def test_nothing_that_is_told_names_a_patient(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    series(root / "good", 3)
    series(root / "uneven", 3, ImagePositionPatient=[0, 0, 0])
    series(root / "nobody", 1, PatientID="")
    series(root / "shared", 2)
    series(root / "shared", 2)
    found = find(root, tmp_path, choice="all")
    text = f"{found}{capfd.readouterr()}"
    for secret in ("Doe", "Jane", "77001"):
        assert secret not in text
    assert [item.path for item in found.found] == ["good"]
    assert "1 series left out: each lacks slices, or has two at one position; expected even distances" in found.notes
    assert "1 series left out: each has no PatientID" in found.notes
    assert "2 series left out: each shares its folder with other files; --sort FOLDER gives each its own" in found.notes


@pytest.mark.parametrize("folder", ["DOE", "x_doe_1", "2020/mcjane"])
def test_a_path_with_the_patients_name_is_refused(folder: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / folder, 3)
    series(root / "doermann", 3)  # not a word of it
    with pytest.raises(Problem, match="the paths of 1 series hold the name of their patient") as caught:
        find(root, tmp_path, choice="all")
    assert folder not in str(caught.value)


def test_sorted_series_have_folders_of_their_own_without_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / "DOE", 3)
    series(root / "DOE", 2, apart=5)
    found = find(root, tmp_path, choice="all", sort="series").found
    assert len(found) == 2
    assert all(item.path.startswith(f"series/{item.patient}/") for item in found)
    assert sorted(read_image(root / item.path, 3).values.shape[3] for item in found) == [2, 3]
    assert len([*(root / "DOE").iterdir()]) == 5  # what was there is as it was


@pytest.mark.parametrize("sort", ["../series", "/series", ".", "out/series"])
def test_sorting_stays_below_the_root(sort: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / "a", 2)
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(Problem, match="expected a folder below the data root"):
        find(root, tmp_path, sort=sort)


def test_pseudonyms_of_a_table(tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / "a", 1)
    series(root / "b", 1, patient="77002")
    (tmp_path / "table.csv").write_text("PatientID,pseudonym\n77001,north-1\n")
    names = files_below(root, tmp_path / "state")
    found = find_series(root, names, Wanted(), tabled(tmp_path / "table.csv"), lambda done, of: None)
    assert [item.patient for item in found.found] == ["north-1"]
    assert "1 series left out: each has no pseudonym in the table" in found.notes
    (tmp_path / "table.csv").write_text("PatientID,pseudonym\n77001,north-1\n77001,north-2\n")
    with pytest.raises(Problem, match="lists a PatientID twice"):
        tabled(tmp_path / "table.csv")


def test_reports_and_damaged_files_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / "a", 2)
    series(root / "seg", 1, Modality="SEG")
    good = next((root / "a").iterdir()).read_bytes()
    (root / "torn.dcm").write_bytes(good[:200])
    found = find(root, tmp_path)
    assert [item.path for item in found.found] == ["a"]
    assert "1 DICOM files are no images (reports, structures, segmentations)" in found.notes
    assert "1 DICOM files cannot be read" in found.notes
