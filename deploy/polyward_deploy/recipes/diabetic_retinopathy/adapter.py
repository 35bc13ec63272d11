"""IDRiD's two parts -> one row for each photograph, the four masks of a photograph made one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from polyward_deploy.recipes.adapting import Array, Made, Row, files_in, one_in, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "IDRiD"
MASKED, GRADED = "A. Segmentation", "B. Disease Grading"
LESIONS = ("MA", "HE", "EX", "SE")  # microaneurysms, haemorrhages, hard and soft exudates: 1 to 4
GRADE, RISK = "Retinopathy grade", "Risk of macular edema"
TRAIN_AND_VAL = (0.85, 0.15, 0.0)


def rows(root: Path) -> Iterator[Row]:
    """The graded photographs, then those that have masks alone. Raises `Problem`."""
    masks = dict(_masks(root / MASKED)) if (root / MASKED).is_dir() else {}
    for path, labels in _grades(root / GRADED):
        _, outline = masks.pop(_digest(path), (path, ""))
        yield _row(path) | {"lesions": outline} | labels
    for path, outline in masks.values():
        yield _row(path) | {"lesions": outline, "grade": "", "dme": ""}


def _row(path: Path) -> Row:
    test = path.parent.name.startswith("b.")
    name = f"{path.parents[2].name[0]}-{path.stem}"
    return {"path": path, "patient_id": name, "split": "test" if test else split_of(name, TRAIN_AND_VAL)}


def _grades(part: Path) -> Iterator[tuple[Path, Row]]:
    pictures = {
        (path.parent.name[0], path.stem): path
        for path in files_in(part / "1. Original Images", "*/*.jpg", data_set=DATA_SET)
    }
    for letter in sorted({letter for letter, _ in pictures}):
        sheet = one_in(part / "2. Groundtruths", f"{letter}.*.csv", data_set=DATA_SET)
        for number, case in enumerate(table(sheet, ("Image name", GRADE, RISK), data_set=DATA_SET), start=2):
            if not case["Image name"]:
                continue  # the published tables end with empty lines
            if (letter, case["Image name"]) not in pictures:
                raise Problem(str(sheet), f"row {number} names {case['Image name']!r}, which is not in the images")
            yield pictures[letter, case["Image name"]], {"grade": case[GRADE], "dme": case[RISK]}


def _masks(part: Path) -> Iterator[tuple[str, tuple[Path, Made]]]:
    """By the photograph's digest: the photograph and its mask."""
    for path in files_in(part / "1. Original Images", "*/*.jpg", data_set=DATA_SET):
        folder = part / "2. All Segmentation Groundtruths" / path.parent.name
        yield _digest(path), (path, _united(path, folder))


def _united(path: Path, folder: Path) -> Made:
    """One mask of the lesions' files: later kinds cover those before."""

    def make() -> tuple[Array, Array | None]:
        with Image.open(path) as picture:
            labels = np.zeros((picture.height, picture.width), np.uint8)
        for number, kind in enumerate(LESIONS, start=1):
            for found in folder.glob(f"*/{path.stem}_{kind}.tif"):
                with Image.open(found) as picture:
                    values = np.asarray(picture.convert("RGB"))
                if values.shape[:2] != labels.shape:
                    raise Problem(str(found), f"has the size {values.shape[:2]}", expected=f"{labels.shape}")
                labels[values.max(axis=-1) > 0] = number
        return labels, None

    return Made(f"{folder.name[0]}-{path.stem}.png", make)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
