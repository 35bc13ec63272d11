"""VerSe's or SPIDER's folders -> manifest rows; middles of vertebrae are computed from the masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from polyward_deploy.recipes.adapting import Row, files_in, one_in, split_of, table, volume
from polyward_deploy.recipes.volumes import renumbered
from polyward_shared.problems import Problem

DATA_SET = "VerSe or SPIDER"
VERSE = tuple(range(20, 25))  # L1 to L5
SPIDER = (5, 4, 3, 2, 1)  # L1 to L5, for it counts from below
VERTEBRA, DISC, CANAL = 1, 2, 3
GRADES = tuple("12345")  # Pfirrmann
VERSE_NUMBERS = dict.fromkeys(range(1, 29), VERTEBRA)
PARTLY_SEEN = range(101, 126)  # vertebrae cut by the image's border
SPIDER_NUMBERS = (
    dict.fromkeys([*range(1, 26), *PARTLY_SEEN], VERTEBRA) | {100: CANAL} | dict.fromkeys(range(201, 226), DISC)
)


def rows(root: Path) -> Iterator[Row]:
    """One row for each scan with a mask. Raises `Problem`."""
    yield from _spider(root) if (root / "radiological_gradings.csv").is_file() else _verse(root)


def _verse(root: Path) -> Iterator[Row]:
    known = root / "fractures.csv"
    grades = table(known, ("patient", "grade"), data_set=DATA_SET) if known.is_file() else []
    fractures = {row["patient"]: row["grade"] for row in grades}
    for path in files_in(root / "rawdata", "sub-*/*_ct.nii.gz", data_set=DATA_SET):
        patient, name = path.parent.name, path.name.removesuffix("_ct.nii.gz")
        outline = one_in(root / "derivatives" / patient, f"{name}_*msk.nii.gz", data_set=DATA_SET)
        yield _row(path, outline, patient, VERSE, VERSE_NUMBERS) | {"fracture": fractures.get(patient, "")}


def _spider(root: Path) -> Iterator[Row]:
    path = root / "radiological_gradings.csv"
    worst: dict[str, int] = {}
    for number, row in enumerate(table(path, ("Patient", "Pfirrman grade"), data_set=DATA_SET), start=2):
        grade = row["Pfirrman grade"].removesuffix(".0")
        if grade and grade not in GRADES:
            raise Problem(str(path), f"row {number}: the grade is {grade!r}", expected="1 to 5, or nothing")
        if grade:
            worst[row["Patient"]] = max(int(grade), worst.get(row["Patient"], 0))
    for image in files_in(root / "images", "*_t2.nii.gz", data_set=DATA_SET):
        patient = image.name.partition("_")[0]
        outline = one_in(root / "masks", image.name, data_set=DATA_SET)
        yield _row(image, outline, patient, SPIDER, SPIDER_NUMBERS) | {"disc": str(worst.get(patient, ""))}


def _row(path: Path, outline: Path, patient: str, lumbar: Sequence[int], numbers: Mapping[int, int]) -> Row:
    return {
        "path": path,
        "patient_id": patient,
        "split": split_of(patient),
        "structures": renumbered(outline, outline.name, numbers),
        "bodies": _middles(outline, lumbar),
    }


def _middles(outline: Path, lumbar: Sequence[int]) -> str:
    """The landmarks' cell, in the right-anterior-superior axes in which volumes are read; empty where none is seen."""
    values, affine = volume(outline)
    upright = nib.as_closest_canonical(nib.Nifti1Image(values.astype(np.int16), affine))  # type: ignore[no-untyped-call]
    labels = np.asarray(upright.dataobj)
    cells = []
    for number in lumbar:
        inside = np.argwhere(labels == number)
        cells.append(" ".join(f"{value:.1f}" for value in inside.mean(axis=0)) if len(inside) else "-")
    return "; ".join(cells) if any(cell != "-" for cell in cells) else ""
