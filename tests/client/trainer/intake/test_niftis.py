"""Names in the manner of BIDS: which are images, whose, and which masks are theirs."""

from __future__ import annotations

import pytest

from polyward_client.trainer.intake.niftis import find_volumes
from polyward_shared.problems import Problem

NAMES = [
    "derivatives/seg/sub-01/ses-1/anat/sub-01_ses-1_desc-Lesion_mask.nii.gz",
    "derivatives/seg/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz",
    "derivatives/seg/sub-02/anat/sub-02_run-1_mask.nii.gz",
    "derivatives/seg/sub-02/anat/sub-02_run-2_mask.nii.gz",
    "derivatives/seg/sub-09/anat/sub-09_mask.nii.gz",
    "derivatives/fs/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz",
    "sub-02/anat/sub-02_run-1_T1w.nii.gz",
    "dataset_description.json",
]


def test_images_masks_and_subjects() -> None:
    survey = find_volumes(NAMES, suffix="")
    assert [(item.path.rsplit("/", 1)[1], item.patient, sorted(item.masks)) for item in survey.found] == [
        ("sub-01_ses-1_T1w.nii.gz", "sub-01", ["lesion", "mask"]),
        ("sub-01_ses-2_T1w.nii.gz", "sub-01", []),
        ("sub-02_run-1_T1w.nii.gz", "sub-02", ["mask"]),
    ]
    assert survey.found[0].masks["lesion"] == NAMES[0]
    assert survey.found[2].masks["mask"] == NAMES[2]  # of the same run
    assert survey.found[1].keys["session"] == "sub-01_ses-2"
    assert "3 images are T1w" in survey.notes
    assert "not used, choose with --suffix: 1 FLAIR" in survey.notes
    assert any(note.startswith("2 masks have no image") for note in survey.notes)


def test_another_suffix() -> None:
    assert [item.path for item in find_volumes(NAMES, suffix="FLAIR").found] == [NAMES[8]]
    with pytest.raises(Problem, match="no image is a T2w; expected one of FLAIR, T1w"):
        find_volumes(NAMES, suffix="T2w")


def test_two_masks_of_one_kind_are_not_chosen_between() -> None:
    names = ["sub-1/sub-1_T1w.nii", "derivatives/a/sub-1_mask.nii", "derivatives/b/sub-1_mask.nii"]
    survey = find_volumes(names, suffix="")
    assert survey.found[0].masks == {}
    assert any("several masks of one kind" in note for note in survey.notes)
