"""CheXpert's tables, with outlines and boxes of one's own beside them -> manifest rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "CheXpert"
COLUMNS = {"cardiomegaly": "Cardiomegaly", "effusion": "Pleural Effusion", "consolidation": "Consolidation"}
CORNERS = ("x0", "y0", "x1", "y1")
TRAIN_AND_VAL = (0.85, 0.15, 0.0)


def rows(root: Path) -> Iterator[Row]:
    """One row for each frontal view of `train.csv` (train, val by patient) and `valid.csv` (test). Raises `Problem`."""
    boxes = _boxes(root / "nodules.csv")
    for name in ("train.csv", "valid.csv"):
        if name == "valid.csv" and not (root / name).is_file():
            return
        for number, case in enumerate(table(root / name, ("Path", *COLUMNS.values()), data_set=DATA_SET), start=2):
            place = _within(case["Path"])
            if "frontal" not in place.name:
                continue
            if not (root / place).is_file():
                raise Problem(str(root / name), f"row {number} names {case['Path']!r}, which does not exist")
            patient = place.parts[-3]
            outline = root / "anatomy" / f"{'-'.join(place.with_suffix('').parts[-3:])}.png"
            yield {
                "path": root / place,
                "patient_id": patient,
                "split": split_of(patient, TRAIN_AND_VAL) if name == "train.csv" else "test",
                "anatomy": outline if outline.is_file() else "",
                "nodules": boxes.get(str(place), ""),
                **{ours: case[theirs].removesuffix(".0") for ours, theirs in COLUMNS.items()},
            }


def _within(path: str) -> Path:
    """`CheXpert-v1.0-small/train/patient00001/...` -> `train/patient00001/...`."""
    parts = Path(path).parts
    return Path(*parts[-4:])


def _boxes(path: Path) -> dict[str, str]:
    """The cells of `nodules` by image; `none` where nothing was found."""
    found: dict[str, list[str]] = {}
    for case in table(path, ("image", *CORNERS), data_set=DATA_SET) if path.is_file() else ():
        own = found.setdefault(str(_within(case["image"])), [])
        if case["x0"]:
            own.append(" ".join([*(case[corner] for corner in CORNERS), "nodule"]))
    return {image: "; ".join(own) or "none" for image, own in found.items()}
