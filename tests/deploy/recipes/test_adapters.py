"""Each adapter on a tiny folder laid out like the published data set."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from polyward_client.site import read_site
from polyward_client.trainer.images import read_image, read_mask
from polyward_deploy.recipes.adapting import split_of
from polyward_deploy.recipes.catalogue import find, names
from polyward_deploy.recipes.steps import adapted_sites
from polyward_deploy.recipes.stroke_cascade.adapter import MAPS
from polyward_shared.problems import Problem


def picture(path: Path, *, value: int = 100, mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * len(Image.new(mode, (1, 1)).getbands())).save(path)
    return path


def text(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def adapted(name: str, root: Path, out: Path) -> list[dict[str, str]]:
    """The manifest's rows; every file that they name is there."""
    files = adapted_sites(name, root, out)
    assert all(read_site(path).root.resolve() == out.resolve() for path in files)
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all((out / row["path"]).is_file() for row in rows)
    return rows


def test_a_patient_s_split_depends_on_the_identifier_alone() -> None:
    splits = [split_of(f"patient-{number}") for number in range(1000)]
    assert splits == [split_of(f"patient-{number}") for number in range(1000)]
    assert 650 < splits.count("train") < 750
    assert 110 < splits.count("val") < 190


def test_dental_cohort(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    picture(root / "images" / "a.png", mode="L")
    picture(root / "images" / "b.png", mode="L")
    text(root / "cases.csv", ["file,patient,age,sex", "images/a.png,p1,12.5,F", "images/b.png,p2,,M"])
    rows = adapted("dental_age_sex", root, tmp_path / "out")
    assert [(row["patient_id"], row["age"], row["sex"]) for row in rows] == [("p1", "12.5", "0"), ("p2", "", "1")]
    assert read_site(tmp_path / "out" / "site.toml").file.tasks == ("age", "sex")
    text(root / "cases.csv", ["file,patient,age,sex", "images/a.png,p1,12.5,woman"])
    with pytest.raises(Problem, match="row 2: sex is 'woman'"):
        list(find("dental_age_sex").rows(root))


def test_refuge(tmp_path: Path) -> None:
    root = tmp_path / "REFUGE"
    marks = root / "Annotation-Training400"
    for kind, name in (("Glaucoma", "g0001"), ("Non-Glaucoma", "n0001")):
        picture(root / "Training400" / kind / f"{name}.jpg")
        values = np.full((8, 12), 255, np.uint8)
        values[2:6, 2:6], values[3:5, 3:5] = 128, 0
        (marks / "Disc_Cup_Masks" / kind).mkdir(parents=True)
        Image.fromarray(values).save(marks / "Disc_Cup_Masks" / kind / f"{name}.bmp")
    table = marks / "Fovea_location.csv"
    text(table, ["ID,ImgName,Fovea_X,Fovea_Y", "1,g0001.jpg,7.5,4.0", "2,n0001.jpg,6.0,3.5"])
    picture(root / "REFUGE-Validation400" / "V0001.jpg")
    text(
        root / "REFUGE-Validation400-GT" / "Fovea_locations.csv",
        ["ID,ImgName,Glaucoma Label,Fovea_X,Fovea_Y", "1,V0001.jpg,1,2.0,3.0"],
    )
    rows = adapted("glaucoma_refuge", root, tmp_path / "out")
    assert [row["split"] for row in rows] == ["train", "train", "val"]
    assert [row["glaucoma"] for row in rows] == ["1", "0", "1"]
    assert [row["fovea"] for row in rows] == ["7.5 4.0", "6.0 3.5", "2.0 3.0"]
    assert rows[2]["disc_cup"] == ""
    mask = read_mask(tmp_path / "out" / rows[0]["disc_cup"], 2, classes=2)
    assert np.bincount(mask.ravel()).tolist() == [96 - 16, 12, 4]
    table.rename(table.with_suffix(".xlsx"))
    with pytest.raises(Problem, match=r"save it as Fovea_location\.csv"):
        list(find("glaucoma_refuge").rows(root))


def nifti(path: Path, values: NDArray[np.generic], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*spacing, 1.0])), path)  # type: ignore[no-untyped-call]


def series(path: Path, values: NDArray[np.float32]) -> None:
    """A NIfTI file in a folder of its own name, as the ISLES sets lie."""
    nifti(path / f"{path.name}.nii", values, (2.0, 2.0, 5.0))


def test_isles_2018_slices(tmp_path: Path) -> None:
    root = tmp_path / "ISLES"
    for case, kinds in (("case_1", (*MAPS, "OT", "MR_DWI")), ("case_2", (*MAPS, "OT"))):
        for number, kind in enumerate(kinds):
            values = np.full((6, 4, 2), number, np.float32)
            if kind == "OT":
                values[:] = 0
                values[5, 0, 1] = 1
            series(root / "TRAINING" / case / f"SMIR.Brain.XX.O.{kind}.34556{number}", values)
    text(root / "patients.csv", ["case,patient", "case_1,p1", "case_2,p1"])
    rows = adapted("stroke_cascade", root, tmp_path / "out")
    assert [row["patient_id"] for row in rows] == ["p1"] * 4, "two slabs of one patient, two slices each"
    assert len({row["split"] for row in rows}) == 1
    assert [bool(row["dwi"]) for row in rows] == [True, True, False, False]
    image = read_image(tmp_path / "out" / rows[1]["path"], 2).values
    assert image.shape == (5, 4, 6)
    assert image[:, 0, 0].tolist() == [0, 1, 2, 3, 4], "CT, CBF, CBV, MTT, Tmax"
    assert read_mask(tmp_path / "out" / rows[0]["core"], 2, classes=1).sum() == 0
    core = read_mask(tmp_path / "out" / rows[1]["core"], 2, classes=1)
    assert (core.sum(), core[0, 5]) == (1, 1), "the mask lies as the image does"
    (root / "TRAINING" / "case_3").mkdir()
    with pytest.raises(Problem, match=r"case_3: holds no \*\.O\.CT\.\*"):
        list(find("stroke_cascade").rows(root))


def test_isles_2015_volumes(tmp_path: Path) -> None:
    root = tmp_path / "SISS"
    for number, kind in enumerate(("MR_DWI", "MR_Flair", "MR_T1", "MR_T2", "OT")):
        values = np.full((6, 4, 2), number if kind != "OT" else 1, np.float32)
        series(root / "SISS2015_Training" / "1" / f"VSD.Brain.XX.O.{kind}.7061{number}", values)
    (row,) = adapted("stroke_baseline", root, tmp_path / "out")
    picture = read_image(tmp_path / "out" / row["path"], 3)
    assert picture.values.shape == (4, 6, 4, 2)
    assert picture.spacing == (2.0, 2.0, 5.0)
    assert picture.values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert read_mask(tmp_path / "out" / row["lesion"], 3, classes=1).shape == (6, 4, 2)


def test_metastases_by_centre(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    for name in ("a", "b"):
        nifti(root / "images" / f"{name}.nii.gz", np.ones((4, 4, 4), np.float32))
    nifti(root / "gtv" / "a.nii.gz", np.ones((4, 4, 4), np.uint8))
    text(root / "patients.csv", ["patient,image,egfr,centre", "p1,a.nii.gz,,north", "p2,b.nii.gz,1,south"])
    rows = adapted("egfr_gtv", root, tmp_path / "out")
    assert [(bool(row["gtv"]), row["egfr"]) for row in rows] == [(True, ""), (False, "1")]
    north, south = (read_site(tmp_path / "out" / f"site-{name}.toml") for name in ("north", "south"))
    assert (north.file.tasks, south.file.tasks) == (("gtv",), ("egfr",)), "a site has the tasks that it has labels for"
    assert south.file.data.rows == {"site": "south"}
    text(root / "patients.csv", ["patient,image,egfr", "p1,a.nii.gz,1"])
    with pytest.raises(Problem, match="lacks the column centre"):
        list(find("egfr_gtv").rows(root))


def test_limuc(tmp_path: Path) -> None:
    root = tmp_path / "LIMUC"
    for patient, score, number in (("1", 0, 1), ("1", 2, 2), ("2", 1, 1)):
        name = f"UC_patient_{patient}_{number}.bmp"
        picture(root / "patient_based_classified_images" / patient / f"Mayo {score}" / name, value=40 * score)
    rows = adapted("mayo_coarse_fine", root, tmp_path / "out")
    found = [(row["patient_id"], row["mayo"], row["remission"]) for row in rows]
    assert found == [("1", "0", "1"), ("1", "2", "0"), ("2", "1", "1")]
    assert read_image(tmp_path / "out" / rows[1]["path"], 2).values.tolist() == np.full((3, 8, 12), 80).tolist()
    picture(root / "patient_based_classified_images" / "2" / "Mayo 7" / "UC_patient_2_9.bmp")
    with pytest.raises(Problem, match="Mayo 7: is no score"):
        list(find("mayo_coarse_fine").rows(root))


@pytest.mark.parametrize("name", names())
def test_every_adapter_tells_what_a_strange_folder_lacks(name: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="README"):
        list(find(name).rows(tmp_path))
    with pytest.raises(Problem, match="is not a folder"):
        adapted_sites(name, tmp_path / "nowhere", tmp_path / "out")
