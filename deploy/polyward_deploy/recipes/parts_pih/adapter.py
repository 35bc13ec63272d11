"""A cohort of infant MR slices with a table of types and two folders of masks -> manifest rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "an infant MR cohort (slices.csv, images, csf and brain)"
TYPES = ("healthy", "post_infectious", "non_post_infectious", "")
MASKS = ("csf", "brain")


def rows(root: Path) -> Iterator[Row]:
    """One row for each line of `slices.csv` (file, patient, type); a patient of two types too is a `Problem`."""
    path = root / "slices.csv"
    types: dict[str, str] = {}
    for number, case in enumerate(table(path, ("file", "patient", "type"), data_set=DATA_SET), start=2):
        image, patient = root / "images" / case["file"], case["patient"]
        if not image.is_file():
            raise Problem(str(path), f"row {number} names {case['file']!r}, which is not in images")
        if case["type"] not in TYPES:
            raise Problem(str(path), f"row {number}: type is {case['type']!r}", expected=", ".join(TYPES[:-1]))
        if types.setdefault(patient, case["type"]) != case["type"]:
            raise Problem(
                str(path), f"row {number}: the patient {patient!r} has two types", expected="one for all slices"
            )
        outlines = {name: root / name / case["file"] for name in MASKS}
        yield {
            "path": image,
            "patient_id": patient,
            "split": split_of(patient),
            **{name: outline if outline.is_file() else "" for name, outline in outlines.items()},
            "hydrocephalus": case["type"],
        }
