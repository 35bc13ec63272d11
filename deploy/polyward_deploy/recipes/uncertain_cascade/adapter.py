"""The Decathlon's hippocampus task, with a table of scores where there is one -> manifest rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, split_of, table

DATA_SET = "the Decathlon's Task04 (imagesTr and labelsTr)"


def rows(root: Path) -> Iterator[Row]:
    """One row for each volume in `imagesTr`; `scores.csv` (image, patient, score) is optional. Raises `Problem`."""
    known = root / "scores.csv"
    cases = table(known, ("image", "patient", "score"), data_set=DATA_SET) if known.is_file() else []
    scores = {case["image"]: case for case in cases}
    for image in files_in(root / "imagesTr", "[!.]*.nii.gz", data_set=DATA_SET):  # the archive holds ._ files too
        outline = root / "labelsTr" / image.name
        case = scores.get(image.name, {})
        patient = case.get("patient", image.name.partition(".")[0])
        yield {
            "path": image,
            "patient_id": patient,
            "split": split_of(patient),
            "hippocampus": outline if outline.is_file() else "",
            "score": case.get("score", ""),
        }
