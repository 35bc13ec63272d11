"""ACDC's patient folders -> one row for each patient, its two moments stacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from polyward_deploy.recipes.adapting import Row, files_in, split_of, stacked, volume
from polyward_shared.problems import Problem

DATA_SET = "ACDC"
LEFT_VENTRICLE = 3
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
TRAIN_AND_VAL = (0.85, 0.15, 0.0)


def rows(root: Path) -> Iterator[Row]:
    """One row for each patient below `training` (train, val) and `testing` (test). Raises `Problem`."""
    parts = [part for part in ("training", "testing") if (root / part).is_dir()] or ["training"]
    for part in parts:
        for path in files_in(root / part, "patient*/Info.cfg", data_set=DATA_SET):
            yield _row(path, split_of(path.parent.name, TRAIN_AND_VAL) if part == "training" else "test")


def _row(path: Path, split: str) -> Row:
    name = path.parent.name
    info = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in info.items()}
    try:
        frames = [f"{name}_frame{int(facts[moment]):02d}" for moment in ("ED", "ES")]
    except (KeyError, ValueError):
        raise Problem(str(path), "does not say which frames are ED and ES", expected="`ED: 1` and `ES: 12`") from None
    if (group := facts.get("Group", "")) not in {*GROUPS, ""}:
        raise Problem(str(path), f"Group is {group!r}", expected=f"one of {', '.join(GROUPS)}")
    images = [path.parent / f"{frame}.nii.gz" for frame in frames]
    if absent := [image for image in images if not image.is_file()]:
        raise Problem(str(path), f"names a frame without the file {absent[0].name}", remedy="copy the folder again")
    masks = [path.parent / f"{frame}_gt.nii.gz" for frame in frames]
    outlined = all(found.is_file() for found in masks)
    return {
        "path": stacked(images, f"{name}.nii.gz"),
        "patient_id": name,
        "split": split,
        "diastole": masks[0] if outlined else "",
        "systole": masks[1] if outlined else "",
        "ef": _ejected(*masks) if outlined else "",
        "pathology": group,
    }


def _ejected(diastole: Path, systole: Path) -> str:
    """The share of the left ventricle's volume that leaves it, in %; empty where a mask shows no ventricle."""
    full, emptied = (int(np.sum(volume(path)[0] == LEFT_VENTRICLE)) for path in (diastole, systole))
    return f"{100 * (full - emptied) / full:.1f}" if full and emptied else ""
