"""Folders of spectral maps, one slice each, a table of patients and lesion masks -> manifest rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from polyward_client.trainer.images import read_image
from polyward_deploy.recipes.adapting import Array, Made, Row, one_in, split_of, table
from polyward_shared.problems import Problem

DATA_SET = "a spectral CT cohort (cases.csv, maps and lesions)"
MAPS = ("conventional", *(f"mono_{energy:03d}" for energy in range(40, 150, 10)), "zeff", "iodine")
COLUMNS = ("case", "patient", "age", "sex", "metastasis")
ALLOWED = {"sex": ("F", "M", ""), "metastasis": ("0", "1", "")}


def rows(root: Path) -> Iterator[Row]:
    """One row for each line of `cases.csv` (case, patient, age, sex, metastasis). Raises `Problem`.

    Every case needs all maps; a case without a mask in `lesions` has no such label.
    """
    path = root / "cases.csv"
    for number, case in enumerate(table(path, COLUMNS, data_set=DATA_SET), start=2):
        for column, allowed in ALLOWED.items():
            if case[column] not in allowed:
                raise Problem(
                    str(path),
                    f"row {number}: {column} is {case[column]!r}",
                    expected=f"{allowed[0]}, {allowed[1]} or nothing",
                )
        name = case["case"]
        outline = root / "lesions" / f"{name}.png"
        maps = [one_in(root / "maps" / name, f"{kind}.*", data_set=DATA_SET) for kind in MAPS]
        yield {
            "path": Made(f"{name}.npy", _stack(maps)),
            "patient_id": case["patient"],
            "split": split_of(case["patient"]),
            "age": case["age"],
            "sex": case["sex"],
            "lesion": outline if outline.is_file() else "",
            "metastasis": case["metastasis"],
        }


def _stack(sources: Sequence[Path]) -> Callable[[], tuple[Array, Array | None]]:
    def make() -> tuple[Array, Array | None]:
        maps = [read_image(source, 2).values for source in sources]
        for source, values in zip(sources, maps, strict=True):
            if values.shape != (1, *maps[0].shape[1:]):
                raise Problem(str(source), f"has the shape {values.shape}", expected=f"{(1, *maps[0].shape[1:])}")
        return np.concatenate(maps), None

    return make
