"""Images, labels and splits -> the rows of a manifest, and the file."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from polyward_client.trainer import images
from polyward_client.trainer.intake.found import Found, Survey, examples
from polyward_client.trainer.intake.labels import Labels
from polyward_client.trainer.intake.splits import MOST_STRATA, Fractions, split_patients, stratum_of
from polyward_client.trainer.manifest import FIXED
from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem

Rows = list[dict[str, str]]


def readable(root: Path, survey: Survey, told: Callable[[int, int], None]) -> Survey:
    """Without the images whose header the trainer would refuse, and without masks of another size."""
    kept: list[Found] = []
    lost: list[str] = []
    unfit: list[str] = []
    for done, item in enumerate(survey.found, start=1):
        told(done, len(survey.found))
        try:
            size = images.extent(root / item.path, item.dims)
        except Problem as problem:
            lost.append(f"{item.path} ({problem.found})")
            continue
        masks = {}
        for column, path in item.masks.items():
            try:
                fits = images.extent(root / path, item.dims) == size
            except Problem:
                fits = False
            if fits:
                masks[column] = path
            else:
                unfit.append(path)
        kept.append(Found(path=item.path, patient=item.patient, dims=item.dims, masks=masks, keys=item.keys))
    notes = list(survey.notes)
    if lost:
        notes.append(f"{len(lost)} images are left out, for the trainer cannot read them: {examples(lost)}")
    if unfit:
        notes.append(f"{len(unfit)} masks are left out, for they are not of their image's size: {examples(unfit)}")
    if not kept:
        raise Problem(str(root), "no image that can be used", remedy="; ".join(notes) or "look at data.root")
    return Survey(survey.form, tuple(kept), tuple(notes))


def rows_of(
    survey: Survey, labels: Labels | None, *, fractions: Fractions, seed: int, stratify: str = ""
) -> tuple[Rows, str]:
    """The manifest's rows, and the column by which splits are balanced; empty for none. Raises `Problem`."""
    masks = list(dict.fromkeys(column for item in survey.found for column in item.masks))
    columns = (*masks, *(labels.columns if labels else ()))
    if len(set(columns)) < len(columns):
        twice = [column for column, count in Counter(columns).items() if count > 1]
        raise Problem("--take", f"found {', '.join(twice)}", expected="columns that masks do not have already")
    rows = []
    for place, item in enumerate(survey.found):
        own = {column: item.masks.get(column, "") for column in masks} | (labels.cells[place] if labels else {})
        rows.append({"path": item.path, "patient_id": item.patient, "split": "", **own})
    by = _stratum(rows, columns, stratify)
    held: dict[str, list[str]] = {}
    for row in rows:
        held.setdefault(row["patient_id"], []).append(row[by] if by else "")
    splits = split_patients({patient: stratum_of(own) for patient, own in held.items()}, fractions, seed)
    for row in rows:
        row["split"] = splits[row["patient_id"]]
    return rows, by


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], *, replace: bool) -> None:
    """The manifest appears whole or not at all. Raises `Problem` if there is one and `replace` is not set."""
    if path.exists() and not replace:
        raise Problem(str(path), "exists already", remedy="--replace, after a look at what would be lost")
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [*FIXED, *(column for column in rows[0] if column not in FIXED)])
                writer.writeheader()
                writer.writerows(rows)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Problem(
            str(path),
            f"cannot be written ({error.strerror})",
            remedy="make the data root writable, or let data.manifest name a file elsewhere",
        ) from None
    sync_folder(path.parent)


def _stratum(rows: Rows, columns: Sequence[str], asked: str) -> str:
    """The first label with few enough values, or the one that was asked for."""
    if asked:
        if asked not in columns:
            raise Problem("--stratify", f"found {asked!r}", expected=f"one of {', '.join(columns) or 'no column'}")
        return asked
    for column in columns:
        values = {row[column] for row in rows} - {""}
        if 2 <= len(values) <= MOST_STRATA:
            return column
    return ""
