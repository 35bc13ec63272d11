"""ISLES 2015 SISS case folders -> one row for each case, its four sequences stacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, one_in, split_of, stacked

DATA_SET = "ISLES 2015 SISS"
SEQUENCES = ("MR_DWI", "MR_Flair", "MR_T1", "MR_T2")
LESION = "OT"


def rows(root: Path) -> Iterator[Row]:
    """One row for each numbered case below `SISS2015_Training`; a case is a patient. Raises `Problem`."""
    for case in files_in(root / "SISS2015_Training", "[0-9]*", data_set=DATA_SET):
        patient = f"siss-{case.name}"
        yield {
            "path": stacked([_series(case, kind) for kind in SEQUENCES], f"{patient}.nii.gz"),
            "patient_id": patient,
            "split": split_of(patient),
            "lesion": _series(case, LESION),
        }


def _series(case: Path, kind: str) -> Path:
    """The sequence's file, in a folder of its own."""
    return one_in(one_in(case, f"*.O.{kind}.*", data_set=DATA_SET), "*.nii*", data_set=DATA_SET)
