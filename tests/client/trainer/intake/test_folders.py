"""Which files are images, which are masks of which, and whose they are; a patient is never guessed."""

from __future__ import annotations

import pytest

from polyward_client.trainer.intake.folders import find_images
from polyward_shared.problems import Problem


def seen(names: list[str], patient: str = "file", masks: str = "") -> dict[str, tuple[str, str]]:
    """Patient and mask of each image."""
    survey = find_images(names, patient=patient, masks=masks)
    return {item.path: (item.patient, item.masks.get("mask", "")) for item in survey.found}


def test_masks_in_a_folder_of_their_own() -> None:
    names = ["w/images/1.png", "w/images/2.jpg", "w/masks/1.png", "v/images/1.png", "v/masks/2.png"]
    assert seen(names) == {
        "w/images/1.png": ("1", "w/masks/1.png"),
        "w/images/2.jpg": ("2", ""),
        "v/images/1.png": ("1", ""),
    }
    assert find_images(names, patient="file", masks="").notes == (
        "1 images have a mask",
        "1 masks have no image: v/masks/2.png",
    )


def test_masks_by_their_ending() -> None:
    names = ["1.png", "1_mask.png", "2.nii.gz", "2_mask.nii.gz", "3.png", "notes.txt"]
    assert seen(names) == {"1.png": ("1", "1_mask.png"), "2.nii.gz": ("2", "2_mask.nii.gz"), "3.png": ("3", "")}


def test_masks_that_a_person_names() -> None:
    assert seen(["1.png", "1~m.png", "1_mask.png"], masks="~m")["1.png"] == ("1", "1~m.png")
    assert seen(["a/1.png", "rois/a/1.png"], masks="rois") == {"a/1.png": ("1", "rois/a/1.png")}


def test_images_that_only_look_like_masks_are_images() -> None:
    assert set(seen(["labels/1.png", "labels/2.png"])) == {"labels/1.png", "labels/2.png"}


def test_patients_by_folder_and_by_pattern() -> None:
    assert seen(["p7/images/1.png", "p7/2.png"], "folder") == {"p7/images/1.png": ("p7", ""), "p7/2.png": ("p7", "")}
    assert seen(["P12_left.png", "P12_right.png"], "(P[0-9]+)_") == {
        "P12_left.png": ("P12", ""),
        "P12_right.png": ("P12", ""),
    }
    survey = find_images(["P1_a.png", "other.png"], patient="(P[0-9]+)_", masks="")
    assert [item.path for item in survey.found] == ["P1_a.png"]
    assert survey.notes == ("1 images are left out, for --patient finds no patient in: other.png",)


@pytest.mark.parametrize(
    ("patient", "text"), [("", "is needed to know whose"), ("(", "no regular expression"), ("P[0-9]", "has 0 groups")]
)
def test_a_patient_is_never_guessed(patient: str, text: str) -> None:
    with pytest.raises(Problem, match=text):
        find_images(["benign/1.png", "malignant/2.png"], patient=patient, masks="")
