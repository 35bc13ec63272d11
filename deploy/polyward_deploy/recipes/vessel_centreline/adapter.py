"""A CTA collection with vessel or centreline masks -> manifest rows; one mask may serve both tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, split_of, table

DATA_SET = "a CTA collection (images, vessels and centrelines)"


def rows(root: Path) -> Iterator[Row]:
    """One row for each volume in `images`; masks have its file name in `vessels` or `centrelines`. Raises `Problem`.

    Where only a vessel mask is there, the centreline is computed from it.
    """
    known = root / "cases.csv"
    cases = table(known, ("image", "patient"), data_set=DATA_SET) if known.is_file() else []
    patients = {case["image"]: case["patient"] for case in cases}
    for image in files_in(root / "images", "*.nii*", data_set=DATA_SET):
        vessel, line = root / "vessels" / image.name, root / "centrelines" / image.name
        patient = patients.get(image.name, image.name.partition(".")[0])
        yield {
            "path": image,
            "patient_id": patient,
            "split": split_of(patient),
            "vessel": vessel if vessel.is_file() else "",
            "centreline": next((path for path in (line, vessel) if path.is_file()), ""),
        }
