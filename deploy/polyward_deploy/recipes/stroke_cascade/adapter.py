"""ISLES 2018's case folders -> one row for each slice, its five maps stacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from polyward_deploy.recipes.adapting import Array, Made, Row, files_in, one_in, split_of, table, volume
from polyward_shared.problems import Problem

DATA_SET = "ISLES 2018"
MAPS = ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax")
CORE, DIFFUSION = "OT", "MR_DWI"


def rows(root: Path) -> Iterator[Row]:
    """One row for each slice below `TRAINING`. Raises `Problem`.

    A case is a slab, and some patients have two: a table `patients.csv` (case, patient) beside TRAINING tells which,
    or else each case counts as a patient.
    """
    known = root / "patients.csv"
    patients = {}
    if known.is_file():
        patients = {row["case"]: row["patient"] for row in table(known, ("case", "patient"), data_set=DATA_SET)}
    for case in files_in(root / "TRAINING", "case_*", data_set=DATA_SET):
        maps = [_series(case, kind) for kind in MAPS]
        core = _series(case, CORE)
        diffusion = _series(case, DIFFUSION) if list(case.glob(f"*.O.{DIFFUSION}.*")) else None
        patient = patients.get(case.name, case.name)
        for place in range(volume(core)[0].shape[2]):
            name = f"{case.name}-{place:02d}"
            yield {
                "path": Made(f"{name}.npy", _cut(maps, place)),
                "patient_id": patient,
                "split": split_of(patient),
                "dwi": Made(f"{name}.npy", _cut([diffusion], place)) if diffusion else "",
                "core": Made(f"{name}.npy", _cut([core], place)),
            }


def _series(case: Path, kind: str) -> Path:
    folder = one_in(case, f"*.O.{kind}.*", data_set=DATA_SET)
    return one_in(folder, "*.nii*", data_set=DATA_SET) if folder.is_dir() else folder


def _cut(sources: Sequence[Path], place: int) -> Callable[[], tuple[Array, Array | None]]:
    def make() -> tuple[Array, Array | None]:
        planes = []
        for source in sources:
            values, _ = volume(source)
            if values.ndim != 3 or place >= values.shape[2]:
                raise Problem(str(source), f"has the shape {values.shape}", expected="the slices of its case")
            planes.append(np.asarray(values[:, :, place].T, np.float32))
        return np.stack(planes), None

    return make
