"""The adapters of further areas, each on a tiny folder laid out like the published data set."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from polyward_client.site import read_site
from polyward_client.trainer.images import read_image, read_mask
from polyward_deploy.recipes.catalogue import find
from polyward_deploy.recipes.writing import write_recipe
from polyward_shared.problems import Problem
from tests.deploy.recipes.test_adapters import adapted, picture, text


def stored(path: Path, values: NDArray[np.generic], *, affine: NDArray[np.float64] | None = None) -> Path:
    """A volume on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)  # type: ignore[no-untyped-call]
    return path


def with_labels(*labels: int) -> NDArray[np.uint8]:
    """A volume [4, 4, 4] whose first voxels have these labels."""
    values = np.zeros((4, 4, 4), np.uint8)
    values.ravel()[: len(labels)] = labels
    return values


def test_chexpert(tmp_path: Path) -> None:
    root = tmp_path / "CheXpert"
    for place in ("train/patient00001/study1/view1_frontal", "train/patient00001/study1/view2_lateral"):
        picture(root / f"{place}.jpg", mode="L")
    picture(root / "valid/patient64541/study1/view1_frontal.jpg", mode="L")
    picture(root / "anatomy/patient00001-study1-view1_frontal.png", mode="L", value=1)
    head = "Path,Sex,Cardiomegaly,Pleural Effusion,Consolidation"
    first = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    lateral = first.replace("view1_frontal", "view2_lateral")
    valid = "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg"
    text(root / "train.csv", [head, f"{first},F,1.0,-1.0,", f"{lateral},F,1.0,,"])
    text(root / "valid.csv", [head, f"{valid},M,0.0,0.0,1.0"])
    text(root / "nodules.csv", ["image,x0,y0,x1,y1", f"{first},1,2,4,5", f"{first},6,2,9,5", f"{valid},,,,"])
    one, two = adapted("chest_findings", root, tmp_path / "out")
    assert [one[name] for name in ("cardiomegaly", "effusion", "consolidation")] == ["1", "-1", ""]
    assert (one["nodules"], two["nodules"]) == ("1 2 4 5 nodule; 6 2 9 5 nodule", "none")
    assert (bool(one["anatomy"]), bool(two["anatomy"]), two["split"]) == (True, False, "test")


def test_acdc_ejection_fraction_from_masks(tmp_path: Path) -> None:
    root = tmp_path / "ACDC"
    folder = root / "training" / "patient001"
    for frame, ventricle in (("frame01", (3,) * 8), ("frame12", (3,) * 2)):
        stored(folder / f"patient001_{frame}.nii.gz", np.full((4, 4, 4), len(ventricle), np.int16))
        stored(folder / f"patient001_{frame}_gt.nii.gz", with_labels(*ventricle, 1, 2))
    text(folder / "Info.cfg", ["ED: 1", "ES: 12", "Group: DCM"])
    (row,) = adapted("cardiac_ef", root, tmp_path / "out")
    assert (row["ef"], row["pathology"]) == ("75.0", "DCM"), "8 voxels, then 2"
    values = read_image(tmp_path / "out" / row["path"], 3).values
    assert values[:, 0, 0, 0].tolist() == [8, 2], "end of diastole, end of systole"
    text(folder / "Info.cfg", ["ED: 1"])
    with pytest.raises(Problem, match="which frames are ED and ES"):
        list(find("cardiac_ef").rows(root))


def test_three_abdominal_sets_and_a_cohort(tmp_path: Path) -> None:
    image = np.ones((4, 4, 4), np.int16)
    stored(tmp_path / "lits" / "volume-7.nii", image)
    stored(tmp_path / "lits" / "segmentation-7.nii", with_labels(1, 2))
    stored(tmp_path / "kits" / "case_00000" / "imaging.nii.gz", image)
    stored(tmp_path / "kits" / "case_00000" / "segmentation.nii.gz", with_labels(1, 2, 3))
    stored(tmp_path / "amos" / "imagesTr" / "amos_0001.nii.gz", image)
    stored(tmp_path / "amos" / "labelsTr" / "amos_0001.nii.gz", with_labels(1, 2, 3, 6, 10))
    stored(tmp_path / "amos" / "imagesVa" / "amos_0002.nii.gz", image)
    stored(tmp_path / "amos" / "imagesVa" / "amos_0507.nii.gz", image)
    expected = {"lits": [1, 2], "kits": [4, 4, 4], "amos": [3, 4, 4, 1, 0]}
    for name, numbers in expected.items():
        rows = adapted("abdomen_organs", tmp_path / name, tmp_path / f"out-{name}")
        found = read_mask(tmp_path / f"out-{name}" / rows[0]["organs"], 3, classes=4)
        assert found.ravel()[: len(numbers)].tolist() == numbers, name
    assert [(row["split"], row["organs"]) for row in rows[1:]] == [("val", "")], "above 500 they are MR"
    stored(tmp_path / "tace" / "a.nii.gz", image)
    head = "file,mask,patient,months,event,age,child_pugh,afp,centre"
    table = text(tmp_path / "tace" / "cases.csv", [head, "a.nii.gz,,p1,14.5,1,63,A,1000,north"])
    (row,) = adapted("abdomen_organs", tmp_path / "tace", tmp_path / "out-tace")
    assert [row[c] for c in ("outcome", "outcome_event", "log_afp", "organs")] == ["14.5", "1", "3.000", ""]
    assert read_site(tmp_path / "out-tace" / "site-north.toml").file.tasks == ("outcome",)
    text(table, [head, "a.nii.gz,,p1,14.5,,63,A,1000,north"])
    with pytest.raises(Problem, match="row 2 states months or event alone"):
        list(find("abdomen_organs").rows(tmp_path / "tace"))


def test_verse_middles_lie_in_the_axes_that_are_read(tmp_path: Path) -> None:
    root = tmp_path / "verse"
    labels = np.zeros((6, 4, 4), np.uint8)
    labels[0, 1, 2], labels[1, 1, 2], labels[5, 3, 0] = 20, 20, 24
    leftward = np.diag([-1.0, 1.0, 1.0, 1.0])
    stored(root / "rawdata/sub-verse004/sub-verse004_ct.nii.gz", labels.astype(np.int16), affine=leftward)
    stored(root / "derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz", labels, affine=leftward)
    text(root / "fractures.csv", ["patient,grade", "sub-verse004,2"])
    (row,) = adapted("spine_landmarks", root, tmp_path / "out")
    assert row["bodies"] == "4.5 1.0 2.0; -; -; -; 0.0 3.0 0.0", "L1 and L5, the first axis turned round"
    assert row["fracture"] == "2"
    outline = read_mask(tmp_path / "out" / row["structures"], 3, classes=3)
    assert np.argwhere(outline == 1).tolist() == [[0, 3, 0], [4, 1, 2], [5, 1, 2]]


def test_spider_takes_the_worst_disc(tmp_path: Path) -> None:
    root = tmp_path / "spider"
    stored(root / "images" / "7_t2.nii.gz", np.ones((4, 4, 4), np.int16))
    stored(root / "masks" / "7_t2.nii.gz", with_labels(5, 100, 203, 106))
    head = "Patient,IVD label,Pfirrman grade"
    grades = text(root / "radiological_gradings.csv", [head, "7,1,3", "7,2,5", "7,3,2"])
    (row,) = adapted("spine_landmarks", root, tmp_path / "out")
    assert row["disc"] == "5"
    assert row["bodies"] == "0.0 0.0 0.0; -; -; -; -", "5 is L1, counted from below"
    found = read_mask(tmp_path / "out" / row["structures"], 3, classes=3)
    assert found.ravel()[:4].tolist() == [1, 3, 2, 1], "a vertebra that the border cuts is one"
    text(grades, [head, "7,1,12"])
    with pytest.raises(Problem, match="row 2: the grade is '12'"):
        list(find("spine_landmarks").rows(root))


def test_panda_tiles_belong_to_slides(tmp_path: Path) -> None:
    root = tmp_path / "panda"
    for slide in ("a1", "b2"):
        for tile in ("000", "001"):
            picture(root / "tiles" / slide / f"{tile}.png")
        picture(root / "masks" / slide / "000.png", mode="L", value=2)
    head = "image_id,data_provider,isup_grade,gleason_score"
    table = text(root / "train.csv", [head, "a1,karolinska,3,4+3", "b2,radboud,0,negative", "c3,radboud,1,3+3"])
    rows = adapted("slide_grade", root, tmp_path / "out")
    assert [(row["slide"], row["grade"], row["site"]) for row in rows] == [("a1", "3", "karolinska")] * 2 + [
        ("b2", "0", "radboud")
    ] * 2
    sums = [int(read_mask(tmp_path / "out" / rows[n]["tumour"], 2, classes=1).sum()) for n in (0, 2)]
    assert sums == [96, 0], "2 is cancer in one provider's masks and healthy in the other's"
    assert rows[1]["tumour"] == ""
    text(table, [head, "a1,karolinska,12,4+3"])
    with pytest.raises(Problem, match="row 2: provider 'karolinska', grade '12'"):
        list(find("slide_grade").rows(root))


def test_pannuke_counts_nuclei(tmp_path: Path) -> None:
    root = tmp_path / "PanNuke"
    masks = np.zeros((1, 8, 8, 6))
    masks[0, 0, :2, 0], masks[0, 2, :2, 0], masks[0, 4, :2, 4] = 1, 2, 3
    for number in (1, 3):
        for part in ("images", "masks"):
            (root / f"Fold {number}" / part / f"fold{number}").mkdir(parents=True)
        folder = root / f"Fold {number}"
        np.save(folder / f"images/fold{number}/images.npy", np.full((1, 8, 8, 3), 200.0))
        np.save(folder / f"images/fold{number}/types.npy", np.array(["Bile-duct"]))
        np.save(folder / f"masks/fold{number}/masks.npy", masks)
    rows = adapted("nuclei_pannuke", root, tmp_path / "out")
    assert [(row["split"], row["tissue"], row["cells"]) for row in rows] == [
        ("train", "Bile-duct", "3"),
        ("test", "Bile-duct", "3"),
    ]
    found = read_mask(tmp_path / "out" / rows[0]["nuclei"], 2, classes=5)
    assert np.bincount(found.ravel()).tolist() == [58, 4, 0, 0, 0, 2]
    np.save(root / "Fold 1/images/fold1/types.npy", np.array(["Skin", "Skin"]))
    with pytest.raises(Problem, match="1 images, 2 types"):
        list(find("nuclei_pannuke").rows(root))


def test_ham_is_split_by_lesion(tmp_path: Path) -> None:
    root = tmp_path / "HAM"
    picture(root / "HAM10000_images_part_1" / "ISIC_1.jpg")
    picture(root / "HAM10000_images_part_2" / "ISIC_2.jpg")
    picture(root / "HAM10000_segmentations_lesion_tschandl" / "ISIC_1_segmentation.png", mode="L", value=255)
    table = root / "HAM10000_metadata.csv"
    text(table, ["lesion_id,image_id,dx,age", "HAM_7,ISIC_1,mel,60", "HAM_7,ISIC_2,mel,60", "HAM_8,ISIC_9,nv,50"])
    one, two = adapted("skin_lesion", root, tmp_path / "out")
    assert (one["patient_id"], one["split"]) == (two["patient_id"], two["split"])
    assert (one["diagnosis"], bool(one["lesion"]), bool(two["lesion"])) == ("mel", True, False)
    text(table, ["lesion_id,image_id,dx", "HAM_7,ISIC_1,wart"])
    with pytest.raises(Problem, match="row 2: dx is 'wart'"):
        list(find("skin_lesion").rows(root))


def test_idrid_joins_a_photograph_that_is_in_both_parts(tmp_path: Path) -> None:
    root = tmp_path / "IDRiD"
    masked, graded = root / "A. Segmentation", root / "B. Disease Grading"
    picture(masked / "1. Original Images/a. Training Set/IDRiD_01.jpg", value=10)
    picture(masked / "1. Original Images/a. Training Set/IDRiD_02.jpg", value=20)
    picture(graded / "1. Original Images/b. Testing Set/IDRiD_001.jpg", value=10)
    for kind, folder in (("MA", "1. Microaneurysms"), ("EX", "3. Hard Exudates")):
        values = np.zeros((8, 12, 3), np.uint8)
        values[0, : 2 if kind == "MA" else 1, 0] = 255
        place = masked / "2. All Segmentation Groundtruths/a. Training Set" / folder
        place.mkdir(parents=True)
        Image.fromarray(values).save(place / f"IDRiD_01_{kind}.tif")
    sheet = graded / "2. Groundtruths" / "b. IDRiD_Disease Grading_Testing Labels.csv"
    text(sheet, ["Image name,Retinopathy grade,Risk of macular edema ", "IDRiD_001,3,2", ",,"])
    both, alone = adapted("diabetic_retinopathy", root, tmp_path / "out")
    assert (both["grade"], both["dme"], both["split"]) == ("3", "2", "test"), "as in the grading part"
    found = read_mask(tmp_path / "out" / both["lesions"], 2, classes=4)
    assert found[0, :3].tolist() == [3, 1, 0]
    assert (alone["grade"], bool(alone["lesions"])) == ("", True)


def test_pdgm(tmp_path: Path) -> None:
    root = tmp_path / "PDGM"
    for case in ("UCSF-PDGM-0004", "UCSF-PDGM-0005", "UCSF-PDGM-0005_FU003d", "UCSF-PDGM-0006"):
        for number, kind in enumerate(("T1_bias", "T1c", "T2", "FLAIR")):
            stored(root / f"{case}_nifti" / f"{case}_{kind}.nii.gz", np.full((4, 4, 4), number, np.int16))
    stored(root / "UCSF-PDGM-0004_nifti" / "UCSF-PDGM-0004_tumor_segmentation.nii.gz", with_labels(1, 2, 4))
    head = "ID,Sex,Age at MRI,IDH,1-dead 0-alive,OS"
    lines = ["UCSF-PDGM-004,M,66,wildtype,1,1303", "UCSF-PDGM-005,F,40,IDH1 p.R132H,0,"]
    lines += ["UCSF-PDGM-005_FU003d,F,40,IDH1 p.R132H,0,", "UCSF-PDGM-006,F,51,unknown,0,80"]
    text(root / "UCSF-PDGM-metadata_v2.csv", [head, *lines])
    one, two, three = adapted("brain_tumour", root, tmp_path / "out")
    assert [three[c] for c in ("idh", "survival", "survival_event")] == ["", "80", "0"]
    assert [one[c] for c in ("idh", "survival", "survival_event", "age")] == ["0", "1303", "1", "66"]
    assert [two[c] for c in ("idh", "survival", "survival_event", "tumour")] == ["1", "", "", ""]
    assert read_image(tmp_path / "out" / one["path"], 3).values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    found = read_mask(tmp_path / "out" / one["tumour"], 3, classes=3)
    assert found.ravel()[:3].tolist() == [3, 1, 2]


def test_hospitals_outline_different_organs(tmp_path: Path) -> None:
    write_recipe(find("abdomen_organs"), tmp_path, images=30)
    parts = [read_site(path).file.data.partial.get("organs") for path in sorted((tmp_path / "sites").glob("*.toml"))]
    assert parts == [("kidneys",), ("liver", "liver_tumour", "spleen"), None], "the last has no outlines"
