"""CBIS-DDSM's mass cases and RSNA's pneumonia challenge -> manifest rows, one site for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from polyward_client.trainer.images import extent, read_image
from polyward_deploy.recipes.adapting import Array, Made, Row, files_in, one_in, split_of, table
from polyward_shared.problems import Problem

MAMMOGRAMS, CHESTS = "CBIS-DDSM (mass cases)", "RSNA's pneumonia challenge"
MASSES = ("patient_id", "left or right breast", "image view", "pathology", "image file path", "ROI mask file path")
BOXES = ("patientId", "x", "y", "width", "height", "Target")
Make = Callable[[], tuple[Array, Array | None]]


def rows(root: Path) -> Iterator[Row]:
    """The rows of the folders `cbis-ddsm` and `rsna`, of which one must be there. Raises `Problem`."""
    if not (root / "cbis-ddsm").is_dir() and not (root / "rsna").is_dir():
        raise Problem(
            str(root),
            "holds neither cbis-ddsm nor rsna",
            expected="the folders that the recipe's README shows",
            remedy="give the folder that holds one of them",
        )
    if (root / "cbis-ddsm").is_dir():
        yield from _mammograms(root / "cbis-ddsm")
    if (root / "rsna").is_dir():
        yield from _chests(root / "rsna")


def _mammograms(root: Path) -> Iterator[Row]:
    """One row for each mammogram; the table has one for each mass."""
    tested = {row["patient_id"] for row in _masses(root, "test")}
    masses = sorted(_masses(root, "train") + _masses(root, "test"), key=_view)
    for (patient, side, view), group in groupby(masses, key=_view):
        found = list(group)
        image = one_in((root / found[0]["image file path"]).parent, "*.dcm", data_set=MAMMOGRAMS)
        outlines = [_outline(root / mass["ROI mask file path"], image) for mass in found]
        split = "test" if patient in tested else split_of(patient, (0.85, 0.15, 0.0))
        yield {
            "path": image,
            "patient_id": patient,
            "split": split,
            "site": "mammograms",
            "mass": Made(f"{patient}-{side}-{view}.png", _union(outlines)),
            "malignancy": str(int(any(mass["pathology"] == "MALIGNANT" for mass in found))),
        }


def _masses(root: Path, part: str) -> list[dict[str, str]]:
    return table(root / f"mass_case_description_{part}_set.csv", MASSES, data_set=MAMMOGRAMS)


def _view(mass: dict[str, str]) -> tuple[str, str, str]:
    return mass["patient_id"], mass["left or right breast"], mass["image view"]


def _outline(named: Path, image: Path) -> Path:
    """The mask's file: its folder also holds a crop, which differs in size from the mammogram."""
    wanted = extent(image, 2)
    fitting = [p for p in files_in(named.parent, "*.dcm", data_set=MAMMOGRAMS) if extent(p, 2) == wanted]
    if len(fitting) != 1:
        raise Problem(str(named.parent), f"holds {len(fitting)} files of the size of {image.name}", expected="one mask")
    return fitting[0]


def _union(sources: Sequence[Path]) -> Make:
    def make() -> tuple[Array, Array | None]:
        return np.any([read_image(source, 2).values[0] > 0 for source in sources], axis=0).astype(np.uint8), None

    return make


def _chests(root: Path) -> Iterator[Row]:
    """One row for each radiograph; the table has one for each box."""
    boxes = table(root / "stage_2_train_labels.csv", BOXES, data_set=CHESTS)
    for patient, group in groupby(sorted(boxes, key=lambda box: box["patientId"]), key=lambda box: box["patientId"]):
        found = list(group)
        image = one_in(root / "stage_2_train_images", f"{patient}.dcm", data_set=CHESTS)
        ill = any(box["Target"] == "1" for box in found)
        yield {
            "path": image,
            "patient_id": patient,
            "split": split_of(patient),
            "site": "chests",
            "opacity": Made(f"{patient}.png", _filled(image, found)),
            "pneumonia": str(int(ill)),
        }


def _filled(image: Path, boxes: Sequence[dict[str, str]]) -> Make:
    def make() -> tuple[Array, Array | None]:
        labels = np.zeros(extent(image, 2), np.uint8)
        for box in boxes:
            if box["Target"] == "1":
                x, y, width, height = (round(float(box[key])) for key in BOXES[1:5])
                labels[y : y + height, x : x + width] = 1
        return labels, None

    return make
