"""The manifest -> validated cases with their labels. Every wrong row is named as a spreadsheet shows it: header is 1.

A row that breaks a rule is an error, for guessing would change what a study learns. A row that is merely of no use,
because it has no label for any of the site's tasks, is left out and listed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pandas

from polyward_client.site import Site
from polyward_client.trainer import images
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from polyward_shared.tasks import Binary, Multiclass, Ordinal, Regression, Segmentation, Task

SPLITS = ("train", "val", "test")
FIXED = ("path", "patient_id", "split")
SHOWN_ERRORS = 20
LARGEST_NUMBER = 1e18  # its square still fits into float32
Label = int | float | Path
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One usable image: `labels` has an entry for each task that this image is labelled for."""

    row: int
    path: Path
    patient: str
    split: str
    labels: dict[str, Label]


@dataclass(frozen=True, slots=True)
class Unused:
    """A row that is not used, and why."""

    row: int
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All usable cases of a site for `tasks`, in the manifest's order."""

    tasks: tuple[str, ...]
    cases: tuple[Case, ...]
    unused: tuple[Unused, ...]

    def labels(self, task: str, split: str) -> list[Label]:
        return [case.labels[task] for case in self.cases if case.split == split and task in case.labels]


@dataclass(frozen=True, slots=True)
class Census:
    """How many labels there are: by (task, split), and by (task, split, class name) where a task has classes."""

    labels: dict[tuple[str, str], int]
    classes: dict[tuple[str, str, str], int]
    samples: int  # distinct training images with at least one label


class _RowError(Exception):
    def __init__(self, column: str, found: str, expected: str, remedy: str) -> None:
        super().__init__(f"column {column}: found {found}; expected {expected}; what to do: {remedy}")


def read_manifest(site: Site, study: Study, tasks: tuple[str, ...]) -> Manifest:
    """The site's manifest for these tasks. Raises one `Problem` that lists every wrong row."""
    chosen = {name: study.tasks[name] for name in tasks}
    columns = {name: site.file.data.columns.get(name) or task.column or name for name, task in chosen.items()}
    rows = read_rows(site, columns)
    where, root, dims = str(site.manifest), site.root.resolve(), len(study.image.size)
    cases: list[Case] = []
    unused: list[Unused] = []
    errors: list[str] = []
    seen: dict[Path, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    for number, row in rows:
        try:
            case = _case(number, row, root, dims, chosen, columns)
            _once(case, seen)
            _one_split(case, splits)
        except _RowError as error:
            errors.append(f"row {number}, {error}")
            continue
        if case.labels:
            cases.append(case)
        else:
            unused.append(Unused(number, row["path"], "no label for any of this site's tasks"))
    if errors:
        shown = errors[:SHOWN_ERRORS] + ([f"and {len(errors) - SHOWN_ERRORS} more"] if errors[SHOWN_ERRORS:] else [])
        raise Problem(where, f"{len(errors)} of {len(rows)} rows are wrong:\n  " + "\n  ".join(shown))
    manifest = Manifest(tasks, tuple(cases), tuple(unused))
    _enough(manifest, columns, site.file.policy.minimum_train, where)
    return manifest


def census(manifest: Manifest, study: Study) -> Census:
    """Counts of labels, and of distinct training images."""
    labels: Counter[tuple[str, str]] = Counter()
    classes: Counter[tuple[str, str, str]] = Counter()
    for case in manifest.cases:
        for name, label in case.labels.items():
            labels[name, case.split] += 1
            match study.tasks[name]:
                case Multiclass(classes=names) | Ordinal(classes=names):
                    classes[name, case.split, names[cast(int, label)]] += 1
                case Binary():
                    classes[name, case.split, str(label)] += 1
    samples = sum(case.split == "train" for case in manifest.cases)
    return Census(dict(labels), dict(classes), samples)


def read_rows(site: Site, columns: Mapping[str, str]) -> list[tuple[int, Row]]:
    """The rows that `data.rows` keeps, each with its number in a spreadsheet."""
    path = site.manifest
    try:
        table = pandas.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file", remedy="mend data.root and data.manifest") from None
    except UnicodeDecodeError:
        raise Problem(str(path), "is not UTF-8 text", remedy="save it as CSV with UTF-8 encoding") from None
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, OSError) as error:
        raise Problem(str(path), f"cannot be read as CSV ({type(error).__name__})", expected="a table") from None
    table.columns = [str(column).strip() for column in table.columns]
    wanted = [*FIXED, *columns.values(), *site.file.data.rows]
    if missing := [column for column in wanted if column not in table.columns]:
        raise Problem(
            str(path),
            f"the columns {', '.join(table.columns)}",
            expected=f"also {', '.join(missing)}",
            remedy="add the column, or name it in data.columns; the file's separator must be a comma",
        )
    table = table.fillna("").map(str.strip)
    records = cast(list[Row], table.to_dict("records"))
    numbered = [(number, row) for number, row in enumerate(records, start=2) if any(row.values())]
    kept = [(n, row) for n, row in numbered if all(row[key] == value for key, value in site.file.data.rows.items())]
    if not kept:
        chosen = "".join(f", with {key} = {value}" for key, value in site.file.data.rows.items())
        raise Problem(str(path), "no usable rows", expected=f"at least one{chosen}", remedy="mend data.rows")
    return kept


def _case(number: int, row: Row, root: Path, dims: int, tasks: Mapping[str, Task], columns: Mapping[str, str]) -> Case:
    path = _inside(row["path"], root, "path")
    if not row["patient_id"]:
        raise _RowError("patient_id", "nothing", "a patient's identifier", "fill it in; splits are made by patient")
    if row["split"] not in SPLITS:
        raise _RowError("split", repr(row["split"]), "train, val or test", "correct the cell")
    try:
        size = images.extent(path, dims)
    except Problem as problem:
        raise _RowError(
            "path",
            f"{row['path']!r}, which {problem.found}",
            problem.expected or "an image",
            problem.remedy or "mend it",
        ) from None
    labels: dict[str, Label] = {}
    for name, task in tasks.items():
        column = columns[name]
        if text := row[column]:
            labels[name] = (
                _mask(text, root, column, dims, size) if isinstance(task, Segmentation) else _value(text, task, column)
            )
    return Case(number, path, row["patient_id"], row["split"], labels)


def _inside(text: str, root: Path, column: str) -> Path:
    """The file that a cell names, which must lie below the root, links followed."""
    if not text:
        raise _RowError(column, "nothing", "a path relative to data.root", "fill in the file's path")
    path = root / text
    if Path(text).is_absolute() or not path.resolve().is_relative_to(root):
        raise _RowError(column, f"{text!r}", "a path that stays below data.root", "move the file there")
    if not path.exists():
        raise _RowError(column, f"{text!r}, which does not exist", "a file below data.root", "correct the path")
    return path


def _value(text: str, task: Task, column: str) -> int | float:
    if isinstance(task, Regression):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not abs(number) < LARGEST_NUMBER:
            raise _RowError(column, repr(text), "a number", "correct the cell, or empty it if it is not known")
        return number
    names = task.classes if isinstance(task, Multiclass | Ordinal) else ("0", "1")
    plain = _without_point(text)
    if text in names or plain in names:
        return names.index(text if text in names else plain)
    if not any(name.isdigit() for name in names) and plain.isdigit() and int(plain) < len(names):
        return int(plain)
    raise _RowError(
        column, repr(text), f"one of {', '.join(names)}", "correct the cell, or empty it if it is not known"
    )


def _without_point(text: str) -> str:
    """`4.0`, as a spreadsheet with empty cells stores 4, is `4`."""
    whole, point, rest = text.partition(".")
    return whole if point and whole.isdigit() and not rest.strip("0") else text


def _mask(text: str, root: Path, column: str, dims: int, size: tuple[int, ...]) -> Path:
    path = _inside(text, root, column)
    try:
        found = images.extent(path, dims)
    except Problem as problem:
        raise _RowError(column, f"{text!r}, which {problem.found}", problem.expected or "a mask", "mend it") from None
    if found != size:
        raise _RowError(
            column,
            f"{text!r} of size {' x '.join(map(str, found))}",
            f"the size of its image, {' x '.join(map(str, size))}",
            "export the mask again from this image",
        )
    return path


def _once(case: Case, seen: dict[Path, int]) -> None:
    first = seen.setdefault(case.path.resolve(), case.row)
    if first != case.row:
        raise _RowError("path", f"the same file as in row {first}", "each image once", "remove one of the rows")


def _one_split(case: Case, splits: dict[str, tuple[str, int]]) -> None:
    """A patient in two splits would be learnt and then asked. The identifier itself is not told."""
    split, first = splits.setdefault(case.patient, (case.split, case.row))
    if split != case.split:
        raise _RowError(
            "split",
            f"{case.split!r}, but the same patient is in {split!r} in row {first}",
            "all images of a patient in one split",
            "move all rows of the patient to one split",
        )


def _enough(manifest: Manifest, columns: Mapping[str, str], minimum: int, where: str) -> None:
    lines = list(_scarce(manifest, columns, minimum))
    if lines:
        raise Problem(
            where,
            "; ".join(lines),
            expected=f"at least {minimum} for each task (policy.minimum_train)",
            remedy="label more images, or take the task out of the site's tasks",
        )


def _scarce(manifest: Manifest, columns: Mapping[str, str], minimum: int) -> Iterator[str]:
    for task in manifest.tasks:
        count = len(manifest.labels(task, "train"))
        if not any(task in case.labels for case in manifest.cases):
            yield f"column {columns[task]}: no labels at all for the task {task}"
        elif count < minimum:
            yield f"column {columns[task]}: {count} training labels for the task {task}"
