"""UCSF-PDGM's case folders and table -> one row for each patient, four sequences stacked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from polyward_deploy.recipes.adapting import Row, files_in, one_in, split_of, stacked, table
from polyward_deploy.recipes.volumes import renumbered

DATA_SET = "UCSF-PDGM"
SEQUENCES = ("T1", "T1c", "T2", "FLAIR")
NUMBERS = {2: 1, 4: 2, 1: 3}  # oedema, enhancing, necrosis
COLUMNS = ("ID", "Age at MRI", "IDH", "1-dead 0-alive", "OS")


def rows(root: Path) -> Iterator[Row]:
    """One row for each case folder with a line in the table. Raises `Problem`."""
    folders = files_in(root, "UCSF-PDGM-*_nifti", data_set=DATA_SET)
    sheet = one_in(root, "UCSF-PDGM-metadata*.csv", data_set=DATA_SET)
    listed = {_number(case["ID"]): case for case in table(sheet, COLUMNS, data_set=DATA_SET)}
    for folder in folders:
        name = folder.name.removesuffix("_nifti")
        case = listed.get(_number(name))
        if case is None or "FU" in name:
            continue
        outline = folder / f"{name}_tumor_segmentation.nii.gz"
        followed = bool(case["OS"] and case["1-dead 0-alive"])
        yield {
            "path": stacked([_sequence(folder, name, kind) for kind in SEQUENCES], f"{name}.nii.gz"),
            "patient_id": name,
            "split": split_of(name),
            "tumour": renumbered(outline, f"{name}.nii.gz", NUMBERS) if outline.is_file() else "",
            "idh": _mutated(case["IDH"]),
            "survival": case["OS"] if followed else "",
            "survival_event": case["1-dead 0-alive"] if followed else "",
            "age": case["Age at MRI"],
        }


def _number(name: str) -> str:
    """`UCSF-PDGM-0004` and `UCSF-PDGM-004` -> `4`; what follows the number stays."""
    return re.sub(r"^UCSF-PDGM-0*", "", name)


def _mutated(finding: str) -> str:
    """1 for any named mutation, 0 for `wildtype`, nothing where it is not known."""
    return "" if finding.lower() in {"", "unknown"} else str(int(finding.lower() != "wildtype"))


def _sequence(folder: Path, name: str, kind: str) -> Path:
    """The sequence after correction of its bias where there is such a file."""
    corrected = folder / f"{name}_{kind}_bias.nii.gz"
    return corrected if corrected.is_file() else one_in(folder, f"{name}_{kind}.nii.gz", data_set=DATA_SET)
