"""BraTS 2021's case folders -> one row for each case, its four sequences in one file, the labels 1, 2, 4 as 1, 2, 3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from polyward_deploy.recipes.adapting import Array, Made, Row, files_in, one_in, split_of, stacked, table, volume
from polyward_shared.problems import Problem

DATA_SET = "BraTS 2021"
SEQUENCES = ("t1", "t1ce", "t2", "flair")
ENHANCING = 4  # theirs; 3 in ours


def rows(root: Path) -> Iterator[Row]:
    """One row for each case folder; `grades.csv` (case, high_grade) beside them is optional. Raises `Problem`."""
    known = root / "grades.csv"
    found = table(known, ("case", "high_grade"), data_set=DATA_SET) if known.is_file() else []
    for number, row in enumerate(found, start=2):
        if row["high_grade"] not in {"0", "1", ""}:
            raise Problem(str(known), f"row {number}: high_grade is {row['high_grade']!r}", expected="0, 1 or nothing")
    grades = {row["case"]: row["high_grade"] for row in found}
    for case in files_in(root, "BraTS2021_*", data_set=DATA_SET):
        name = f"{case.name}.nii.gz"
        outline = case / f"{case.name}_seg.nii.gz"
        sequences = [one_in(case, f"{case.name}_{kind}.nii.gz", data_set=DATA_SET) for kind in SEQUENCES]
        yield {
            "path": stacked(sequences, name),
            "patient_id": case.name,
            "split": split_of(case.name),
            "tumour": Made(name, _recoded(outline)) if outline.is_file() else "",
            "high_grade": grades.get(case.name, ""),
        }


def _recoded(source: Path) -> Callable[[], tuple[Array, Array | None]]:
    def make() -> tuple[Array, Array | None]:
        values, affine = volume(source)
        if not np.isin(values, (0, 1, 2, ENHANCING)).all():
            raise Problem(str(source), "holds other labels", expected=f"0, 1, 2 and {ENHANCING}")
        return np.where(values == ENHANCING, 3, values).astype(np.uint8), affine

    return make
