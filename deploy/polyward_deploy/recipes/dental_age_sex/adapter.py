"""A cohort of panoramic slices with a table of age and sex -> manifest rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "a panoramic cohort (cases.csv and the images that it names)"
SEXES = {"m": "1", "male": "1", "f": "0", "female": "0", "1": "1", "0": "0", "": ""}


def rows(root: Path) -> Iterator[Row]:
    """One row for each line of `cases.csv` (file, patient, age, sex). Raises `Problem`."""
    path = root / "cases.csv"
    for number, case in enumerate(table(path, ("file", "patient", "age", "sex"), data_set=DATA_SET), start=2):
        image = root / case["file"]
        if not image.is_file():
            raise Problem(str(path), f"row {number} names {case['file']!r}, which does not exist", remedy="correct it")
        if case["sex"].lower() not in SEXES:
            raise Problem(str(path), f"row {number}: sex is {case['sex']!r}", expected="F, M or nothing")
        yield {
            "path": image,
            "patient_id": case["patient"],
            "split": split_of(case["patient"]),
            "age": case["age"],
            "sex": SEXES[case["sex"].lower()],
        }
