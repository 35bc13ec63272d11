"""Adapters of the recipes that follow cited systems, each on a tiny folder in its layout; and the study before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from polyward_client.site import read_site
from polyward_client.trainer.images import extent, read_image, read_mask
from polyward_deploy.recipes.catalogue import find
from polyward_deploy.recipes.writing import write_recipe
from polyward_shared.problems import Problem
from polyward_shared.study import read_study
from tests.deploy.recipes.test_adapters import adapted, picture, text


def stored(path: Path, values: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)  # type: ignore[no-untyped-call]
    return path


def dicom(path: Path, values: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    file.PixelData = values.tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


def test_one_vessel_mask_serves_mask_and_centreline(tmp_path: Path) -> None:
    root, volume = tmp_path / "cta", np.zeros((4, 5, 6), np.uint8)
    for name in ("c1", "c2", "c3"):
        stored(root / "images" / f"{name}.nii.gz", volume)
    stored(root / "vessels" / "c1.nii.gz", volume)
    stored(root / "centrelines" / "c2.nii.gz", volume)
    text(root / "cases.csv", ["image,patient", "c1.nii.gz,p1"])
    rows = adapted("vessel_centreline", root, tmp_path / "out")
    assert [row["patient_id"] for row in rows] == ["p1", "c2", "c3"]
    assert [bool(row["vessel"]) for row in rows] == [True, False, False]
    assert [bool(row["centreline"]) for row in rows] == [True, True, False]


def test_slide_thumbnails_need_no_label_to_be_drawn(tmp_path: Path) -> None:
    root = tmp_path / "slides"
    for name in ("a.jpg", "b.jpg"):
        picture(root / "thumbnails" / name)
    picture(root / "tissue" / "a.png", value=1, mode="L")
    text(root / "slides.csv", ["file,patient,malignant", "a.jpg,p1,", "b.jpg,p2,"])
    rows = adapted("slide_thumbnail", root, tmp_path / "out")
    assert [bool(row["tissue"]) for row in rows] == [True, False]
    assert read_site(tmp_path / "out" / "site.toml").file.tasks == ("tissue", "thumbnail")
    text(root / "slides.csv", ["file,patient,malignant", "a.jpg,p1,bad"])
    with pytest.raises(Problem, match="row 2: malignant is 'bad'"):
        list(find("slide_thumbnail").rows(root))


def test_slices_of_an_infant_share_split_and_type(tmp_path: Path) -> None:
    root = tmp_path / "infants"
    for name in ("p1-1.png", "p1-2.png", "p2-1.png"):
        picture(root / "images" / name, mode="L")
    picture(root / "csf" / "p1-1.png", value=1, mode="L")
    table = ["file,patient,type", "p1-1.png,p1,healthy", "p1-2.png,p1,healthy", "p2-1.png,p2,post_infectious"]
    text(root / "slices.csv", table)
    rows = adapted("parts_pih", root, tmp_path / "out")
    assert [row["hydrocephalus"] for row in rows] == ["healthy", "healthy", "post_infectious"]
    assert rows[0]["split"] == rows[1]["split"]
    assert [bool(row["csf"]) for row in rows] == [True, False, False]
    assert {row["brain"] for row in rows} == {""}
    text(root / "slices.csv", [*table[:2], "p1-2.png,p1,post_infectious"])
    with pytest.raises(Problem, match="row 3: the patient 'p1' has two types"):
        list(find("parts_pih").rows(root))


def test_decathlon_hippocampus_with_and_without_scores(tmp_path: Path) -> None:
    root, volume = tmp_path / "Task04_Hippocampus", np.zeros((4, 5, 6), np.uint8)
    for number in (1, 2):
        stored(root / "imagesTr" / f"hippocampus_00{number}.nii.gz", volume)
    text(root / "imagesTr" / "._hippocampus_001.nii.gz", ["left behind by the archive"])
    stored(root / "labelsTr" / "hippocampus_001.nii.gz", volume + np.uint8(2))
    assert {row["score"] for row in adapted("uncertain_cascade", root, tmp_path / "masks")} == {""}
    assert read_site(tmp_path / "masks" / "site.toml").file.tasks == ("hippocampus",)
    text(root / "scores.csv", ["image,patient,score", "hippocampus_002.nii.gz,p7,12.5"])
    rows = adapted("uncertain_cascade", root, tmp_path / "both")
    assert [(row["patient_id"], row["score"]) for row in rows] == [("hippocampus_001", ""), ("p7", "12.5")]
    assert [bool(row["hippocampus"]) for row in rows] == [True, False]


def test_brats_sequences_become_channels_and_label_4_becomes_3(tmp_path: Path) -> None:
    root, name = tmp_path / "BraTS2021", "BraTS2021_00000"
    for value, kind in enumerate(("t1", "t1ce", "t2", "flair"), start=10):
        stored(root / name / f"{name}_{kind}.nii.gz", np.full((4, 5, 6), value, np.uint8))
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[0, 0, :3] = (1, 2, 4)
    outline = stored(root / name / f"{name}_seg.nii.gz", labels)
    text(root / "grades.csv", ["case,high_grade", f"{name},1"])
    (row,) = adapted("inflate_2d3d", root, tmp_path / "out")
    image = read_image(tmp_path / "out" / row["path"], 3).values
    assert image[:, 0, 0, 0].tolist() == [10, 11, 12, 13]
    assert read_mask(tmp_path / "out" / row["tumour"], 3, classes=3)[0, 0].tolist() == [1, 2, 3, 0, 0, 0]
    assert row["high_grade"] == "1"
    stored(outline, labels + np.uint8(5))
    with pytest.raises(Problem, match="holds other labels"):
        adapted("inflate_2d3d", root, tmp_path / "again")


def test_spectral_maps_become_14_channels_in_order(tmp_path: Path) -> None:
    root = tmp_path / "spectral"
    kinds = ["conventional", *(f"mono_{energy:03d}" for energy in range(40, 150, 10)), "zeff", "iodine"]
    for value, kind in enumerate(kinds):
        picture(root / "maps" / "c1" / f"{kind}.png", value=value, mode="L")
    picture(root / "lesions" / "c1.png", value=1, mode="L")
    text(root / "cases.csv", ["case,patient,age,sex,metastasis", "c1,p1,61,F,1"])
    (row,) = adapted("spectral_bone", root, tmp_path / "out")
    image = read_image(tmp_path / "out" / row["path"], 2).values
    assert image[:, 0, 0].tolist() == list(range(14))
    assert (row["age"], row["sex"], row["metastasis"]) == ("61", "F", "1")
    picture(root / "maps" / "c1" / "zeff.png", mode="L", size=(5, 5))
    with pytest.raises(Problem, match="has the shape"):
        adapted("spectral_bone", root, tmp_path / "again")


def test_mammograms_and_chests_become_two_sites(tmp_path: Path) -> None:
    root = tmp_path / "radiographs"
    breasts, case = root / "cbis-ddsm", "Mass-Training_P_00001_LEFT_CC"
    header = "patient_id,left or right breast,image view,pathology,image file path,ROI mask file path"
    dicom(breasts / case / "1" / "1-1.dcm", np.full((6, 8), 9, np.uint8))
    lines = []
    for number, pathology in ((1, "BENIGN"), (2, "MALIGNANT")):
        mask = np.zeros((6, 8), np.uint8)
        mask[number, 2:4] = 255
        dicom(breasts / f"{case}_{number}" / "1" / "1-1.dcm", mask[:3, :3])  # the crop
        dicom(breasts / f"{case}_{number}" / "1" / "1-2.dcm", mask)
        lines.append(f"P_00001,LEFT,CC,{pathology},{case}/1/000000.dcm,{case}_{number}/1/000001.dcm")
    text(breasts / "mass_case_description_train_set.csv", [header, *lines])
    dicom(breasts / "Mass-Test_P_00002_LEFT_CC" / "1" / "1-1.dcm", np.full((6, 8), 9, np.uint8))
    dicom(breasts / "Mass-Test_P_00002_LEFT_CC_1" / "1" / "1-1.dcm", mask)
    tested = "Mass-Test_P_00002_LEFT_CC"
    line = f"P_00002,LEFT,CC,BENIGN,{tested}/1/000000.dcm,{tested}_1/1/000001.dcm"
    text(breasts / "mass_case_description_test_set.csv", [header, line])
    for name in ("a", "b"):
        dicom(root / "rsna" / "stage_2_train_images" / f"{name}.dcm", np.full((6, 8), 9, np.uint8))
    boxes = ["patientId,x,y,width,height,Target", "b,1.0,2.0,3.0,2.0,1", "a,,,,,0"]
    text(root / "rsna" / "stage_2_train_labels.csv", boxes)

    rows = adapted("transformer_mammo_cxr", root, tmp_path / "out")
    assert [row["site"] for row in rows] == ["mammograms", "mammograms", "chests", "chests"]
    assert [row["malignancy"] for row in rows] == ["1", "0", "", ""]
    assert [row["pneumonia"] for row in rows] == ["", "", "0", "1"]
    assert rows[0]["split"] in {"train", "val"}
    assert rows[1]["split"] == "test"
    union = read_mask(tmp_path / "out" / rows[0]["mass"], 2, classes=1)
    assert np.argwhere(union).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    filled = read_mask(tmp_path / "out" / rows[3]["opacity"], 2, classes=1)
    assert np.argwhere(filled).tolist() == [[y, x] for y in (2, 3) for x in (1, 2, 3)]
    assert read_site(tmp_path / "out" / "site-chests.toml").file.tasks == ("opacity", "pneumonia")


def test_the_study_before_trains_the_same_encoder_on_slices(tmp_path: Path) -> None:
    recipe = find("inflate_2d3d")
    before = read_study(recipe.folder / "before.toml")
    assert (before.encoder, before.tasks) == (recipe.study.encoder, recipe.study.tasks)
    assert (before.image.channels, len(before.image.size)) == (recipe.study.image.channels, 2)
    write_recipe(replace(recipe, study=before), tmp_path, images=30, seed=1)
    data = tmp_path / "data" / "neurosurgery"
    (first, *_) = sorted((data / "images").iterdir())
    assert extent(first, 2) == before.image.size
    outlines = [read_mask(path, 2, classes=3) for path in (data / "labels" / "tumour").iterdir()]
    assert set(np.unique(outlines)) == {0, 1, 2, 3}
