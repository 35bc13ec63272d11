"""AMOS, LiTS, KiTS, or a table of one's own -> manifest rows; which organs a mask shows stands in the site's file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, split_of, table
from polyward_deploy.recipes.volumes import renumbered
from polyward_shared.problems import Problem

DATA_SET = "AMOS, LiTS, KiTS or cases.csv"
FIRST_MR = 501  # AMOS numbers its CT up to 500
AMOS = {6: 1, 1: 3, 2: 4, 3: 4}  # liver, spleen, right and left kidney
LITS = {1: 1, 2: 2}
KITS = {1: 4, 2: 4, 3: 4}  # kidney, tumour, cyst
COLUMNS = ("file", "mask", "patient", "months", "event", "age", "child_pugh", "afp", "centre")


def rows(root: Path) -> Iterator[Row]:
    """One row for each volume of the set that is there. Raises `Problem`."""
    if (root / "cases.csv").is_file():
        yield from _table(root)
    elif (root / "imagesTr").is_dir():
        for part, split in (("Tr", "train"), ("Va", "val")):
            for path in sorted((root / f"images{part}").glob("*.nii.gz")):
                name = path.name.removesuffix(".nii.gz")
                number = name.rpartition("_")[2]
                if number.isdigit() and int(number) >= FIRST_MR:
                    continue
                yield _row(path, name, root / f"labels{part}" / path.name, AMOS, split if part == "Va" else "")
    elif list(root.glob("volume-*.nii")):
        for path in sorted(root.glob("volume-*.nii")):
            number = path.stem.partition("-")[2]
            yield _row(path, f"lits-{number}", root / f"segmentation-{number}.nii", LITS)
    else:
        for path in files_in(root, "case_*/imaging.nii.gz", data_set=DATA_SET):
            yield _row(path, path.parent.name, path.parent / "segmentation.nii.gz", KITS)


def _row(path: Path, name: str, outline: Path, numbers: dict[int, int], split: str = "") -> Row:
    organs = renumbered(outline, f"{name}.nii.gz", numbers) if outline.is_file() else ""
    return {"path": path, "patient_id": name, "split": split or split_of(name), "organs": organs}


def _table(root: Path) -> Iterator[Row]:
    path = root / "cases.csv"
    for number, case in enumerate(table(path, COLUMNS, data_set=DATA_SET), start=2):
        image, outline = root / case["file"], root / case["mask"]
        if not image.is_file() or (case["mask"] and not outline.is_file()):
            raise Problem(str(path), f"row {number} names a file that does not exist", remedy="correct it")
        if bool(case["months"]) != bool(case["event"]):
            raise Problem(str(path), f"row {number} states months or event alone", expected="both or neither")
        yield {
            "path": image,
            "patient_id": case["patient"],
            "split": split_of(case["patient"]),
            "site": case["centre"],
            "organs": renumbered(outline, f"{case['patient']}.nii.gz", LITS) if case["mask"] else "",
            "outcome": case["months"],
            "outcome_event": case["event"],
            "age": case["age"],
            "child_pugh": case["child_pugh"],
            "log_afp": _logarithm(path, number, case["afp"]),
        }


def _logarithm(path: Path, number: int, text: str) -> str:
    """log10 of AFP in ng/ml, of at least 1."""
    try:
        return f"{math.log10(max(1.0, float(text))):.3f}" if text else ""
    except ValueError:
        raise Problem(str(path), f"row {number}: afp is {text!r}", expected="a number or nothing") from None
