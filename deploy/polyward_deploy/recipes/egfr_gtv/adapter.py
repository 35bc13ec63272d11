"""A cohort of MR crops with tumour masks and a table of mutations -> manifest rows, one site for each centre."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "an MR cohort (patients.csv, images and gtv)"
COLUMNS = ("patient", "image", "egfr", "centre")


def rows(root: Path) -> Iterator[Row]:
    """One row for each line of `patients.csv` (patient, image, egfr, centre). Raises `Problem`.

    A mask has its image's file name in the folder `gtv`; an image without one has no such label.
    """
    path = root / "patients.csv"
    for number, case in enumerate(table(path, COLUMNS, data_set=DATA_SET), start=2):
        image, outline = root / "images" / case["image"], root / "gtv" / case["image"]
        if not image.is_file():
            raise Problem(str(path), f"row {number} names {case['image']!r}, which is not in images")
        if case["egfr"] not in {"0", "1", ""}:
            raise Problem(str(path), f"row {number}: egfr is {case['egfr']!r}", expected="0, 1 or nothing")
        yield {
            "path": image,
            "patient_id": case["patient"],
            "split": split_of(case["patient"]),
            "site": case["centre"],
            "gtv": outline if outline.is_file() else "",
            "egfr": case["egfr"],
        }
