"""HAM10000's table and folders -> one row for each photograph, split by lesion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "HAM10000"
TABLE = "HAM10000_metadata.csv"
OUTLINES = "HAM10000_segmentations_lesion_tschandl"
DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def rows(root: Path) -> Iterator[Row]:
    """One row for each line of the table whose photograph is there. Raises `Problem`."""
    listed = table(root / TABLE, ("lesion_id", "image_id", "dx"), data_set=DATA_SET)
    photographs = {path.stem: path for path in files_in(root, "HAM10000_images_part_*/*.jpg", data_set=DATA_SET)}
    for number, case in enumerate(listed, start=2):
        if case["dx"] not in DIAGNOSES:
            raise Problem(
                str(root / TABLE), f"row {number}: dx is {case['dx']!r}", expected=f"one of {', '.join(DIAGNOSES)}"
            )
        if case["image_id"] not in photographs:
            continue
        outline = root / OUTLINES / f"{case['image_id']}_segmentation.png"
        yield {
            "path": photographs[case["image_id"]],
            "patient_id": case["lesion_id"],
            "split": split_of(case["lesion_id"]),
            "lesion": outline if outline.is_file() else "",
            "diagnosis": case["dx"],
        }
