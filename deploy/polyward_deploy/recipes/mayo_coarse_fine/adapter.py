"""LIMUC's folders by patient and score -> manifest rows; pictures become PNG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, repainted, split_of
from polyward_shared.problems import Problem

DATA_SET = "LIMUC"
FOLDER = "patient_based_classified_images"
SCORES = {f"Mayo {score}": score for score in range(4)}


def rows(root: Path) -> Iterator[Row]:
    """One row for each picture below `patient_based_classified_images/PATIENT/Mayo SCORE`. Raises `Problem`."""
    for path in files_in(root / FOLDER, "*/*/*.bmp", data_set=DATA_SET):
        patient, score = path.parents[1].name, SCORES.get(path.parent.name)
        if score is None:
            raise Problem(str(path.parent), "is no score", expected=f"one of {', '.join(SCORES)}", remedy="rename it")
        yield {
            "path": repainted(path, f"{patient}-{path.stem}.png"),
            "patient_id": patient,
            "split": split_of(patient),
            "remission": str(int(score <= 1)),
            "mayo": str(score),
        }
