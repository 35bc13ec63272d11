"""The manifest -> validated cases with their labels. Every wrong row is named as a spreadsheet shows it: header is 1.

A row that breaks a rule is an error, for guessing would change what a study learns. A row that is merely of no use,
because it has no label for any of the site's tasks, is left out and listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pandas

from polyward_client.site import Site
from polyward_client.trainer import images
from polyward_client.trainer.cells import Cell, CellError, inside
from polyward_client.trainer.files import check_plain, shown
from polyward_client.trainer.side import side_names, side_value
from polyward_client.trainer.tasks import Kinds, kinds_of
from polyward_shared.problems import Problem
from polyward_shared.study import Side, Study

SPLITS = ("train", "val", "test")
FIXED = ("path", "patient_id", "split")
SHOWN_ERRORS = 20
LARGEST_TABLE = 256 << 20  # bytes: above a million rows of many columns
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One usable image: `labels` has an entry for each task that this image is labelled for."""

    row: int
    path: Path
    patient: str
    split: str
    labels: dict[str, Any]  # as the task's kind reads them
    groups: dict[str, str] = field(default_factory=dict)  # the group of each task whose label belongs to several images
    side: tuple[float, ...] = ()  # inputs besides the image, NaN where missing


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

    def labels(self, task: str, split: str) -> list[Any]:
        return [case.labels[task] for case in self.cases if case.split == split and task in case.labels]


@dataclass(frozen=True, slots=True)
class Census:
    """How many labels there are: by (task, split), and by (task, split, class name) where a task has classes."""

    labels: dict[tuple[str, str], int]
    classes: dict[tuple[str, str, str], int]
    samples: int  # distinct training images with at least one label


def read_manifest(site: Site, study: Study, tasks: tuple[str, ...]) -> Manifest:
    """The site's manifest for these tasks. Raises one `Problem` that lists every wrong row."""
    layout = _Layout.of(site, study, tasks)
    rows = read_rows(site, layout.wanted)
    where, root, dims = str(site.manifest), site.root.resolve(), len(study.image.size)
    cases: list[Case] = []
    unused: list[Unused] = []
    errors: list[str] = []
    seen: dict[Path, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    groups: dict[tuple[str, str], tuple[Any, int]] = {}
    for number, row in rows:
        try:
            case = _case(number, row, root, dims, layout)
            _once(case, seen)
            _one_split(case, splits)
            _one_label(case, groups)
        except CellError as error:
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
    _enough(manifest, layout, site.file.policy.minimum_train, where)
    return manifest


def census(manifest: Manifest, study: Study) -> Census:
    """Counts of labels, and of distinct training images. A label of several images counts once for each."""
    kinds = kinds_of(study, manifest.tasks)
    labels: Counter[tuple[str, str]] = Counter()
    classes: Counter[tuple[str, str, str]] = Counter()
    for case in manifest.cases:
        for name, label in case.labels.items():
            labels[name, case.split] += 1
            if (owner := kinds[name].class_of(label)) is not None:
                classes[name, case.split, owner] += 1
    samples = sum(case.split == "train" for case in manifest.cases)
    return Census(dict(labels), dict(classes), samples)


def read_rows(site: Site, columns: Sequence[str]) -> list[tuple[int, Row]]:
    """The rows that `data.rows` keeps, each with its number in a spreadsheet."""
    path = site.manifest
    table = read_table(path, remedy="mend data.root and data.manifest, or make one: polyward-node manifest SITE")
    wanted = [*FIXED, *columns, *site.file.data.rows]
    if missing := [column for column in wanted if column not in table.columns]:
        raise Problem(
            str(path),
            f"the columns {', '.join(table.columns)}",
            expected=f"also {', '.join(missing)}",
            remedy="add the column, or name it in data.columns; the file's separator must be a comma",
        )
    records = cast(list[Row], table.to_dict("records"))
    numbered = [(number, row) for number, row in enumerate(records, start=2) if any(row.values())]
    kept = [(n, row) for n, row in numbered if all(row[key] == value for key, value in site.file.data.rows.items())]
    if not kept:
        chosen = "".join(f", with {key} = {value}" for key, value in site.file.data.rows.items())
        raise Problem(str(path), "no usable rows", expected=f"at least one{chosen}", remedy="mend data.rows")
    return kept


def read_table(path: Path, *, remedy: str) -> pandas.DataFrame:
    """A CSV file as text, cells and headings without blanks around them. Raises `Problem`."""
    try:
        check_plain(path, LARGEST_TABLE)
        table = pandas.read_csv(
            path, dtype=str, keep_default_na=False, skip_blank_lines=False, encoding="utf-8-sig", compression=None
        )
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file", remedy=remedy) from None
    except UnicodeDecodeError:
        raise Problem(str(path), "is not UTF-8 text", remedy="save it as CSV with UTF-8 encoding") from None
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, OSError) as error:
        raise Problem(str(path), f"cannot be read as CSV ({type(error).__name__})", expected="a table") from None
    table.columns = [str(column).strip() for column in table.columns]
    return table.fillna("").map(str.strip)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which columns hold what for these tasks."""

    kinds: Kinds
    columns: dict[str, tuple[str, ...]]
    groups: dict[str, str]
    side: tuple[tuple[str, Side], ...]  # each input with its column, which several may have

    @classmethod
    def of(cls, site: Site, study: Study, tasks: tuple[str, ...]) -> _Layout:
        kinds, named = kinds_of(study, tasks), site.file.data.columns
        return cls(
            kinds,
            {name: kinds[name].columns(named.get(name) or study.tasks[name].column or name) for name in tasks},
            {name: group for name in tasks if (group := getattr(study.tasks[name], "group", None))},
            tuple((study.side[name].column or name, study.side[name]) for name in side_names(study, tasks)),
        )

    @property
    def wanted(self) -> tuple[str, ...]:
        labelled = (c for name, columns in self.columns.items() if self.kinds[name].needs_label for c in columns)
        return tuple(dict.fromkeys((*labelled, *self.groups.values(), *(c for c, _ in self.side))))


def _case(number: int, row: Row, root: Path, dims: int, layout: _Layout) -> Case:
    path = inside(row["path"], root, "path")
    if not row["patient_id"]:
        raise CellError("patient_id", "nothing", "a patient's identifier", "fill it in; splits are made by patient")
    if row["split"] not in SPLITS:
        raise CellError("split", shown(row["split"]), "train, val or test", "correct the cell")
    try:
        size = images.extent(path, dims)
    except Problem as problem:
        raise CellError(
            "path",
            f"{shown(row['path'])}, which {problem.found}",
            problem.expected or "an image",
            problem.remedy or "mend it",
        ) from None

    def cell(column: str) -> Cell | None:
        return Cell(column, row[column], root, size) if row.get(column) else None

    labels, groups = {}, {}
    for name, kind in layout.kinds.items():
        label = kind.label([cell(column) for column in layout.columns[name]]) if kind.needs_label else path
        if label is None:
            continue
        labels[name] = label
        if column := layout.groups.get(name):
            if not row[column]:
                raise CellError(column, "nothing", f"the group that the label of {name} belongs to", "fill it in")
            groups[name] = row[column]
    side = tuple(side_value(definition, cell(column)) for column, definition in layout.side)
    return Case(number, path, row["patient_id"], row["split"], labels, groups, side)


def _once(case: Case, seen: dict[Path, int]) -> None:
    first = seen.setdefault(case.path.resolve(), case.row)
    if first != case.row:
        raise CellError("path", f"the same file as in row {first}", "each image once", "remove one of the rows")


def _one_split(case: Case, splits: dict[str, tuple[str, int]]) -> None:
    """A patient in two splits would be learnt and then asked. The identifier itself is not told."""
    split, first = splits.setdefault(case.patient, (case.split, case.row))
    if split != case.split:
        raise CellError(
            "split",
            f"{case.split!r}, but the same patient is in {split!r} in row {first}",
            "all images of a patient in one split",
            "move all rows of the patient to one split",
        )


def _one_label(case: Case, groups: dict[tuple[str, str], tuple[Any, int]]) -> None:
    """A group has one label, and lies in one split because its images are of one patient's split."""
    for task, group in case.groups.items():
        known, first = groups.setdefault((task, group), ((case.labels[task], case.split), case.row))
        if known != (case.labels[task], case.split):
            raise CellError(
                task,
                f"another label or split than in row {first} for the same group",
                "one label and one split for all images of a group",
                "correct the cells, or the column that names the groups",
            )


def _enough(manifest: Manifest, layout: _Layout, minimum: int, where: str) -> None:
    lines = list(_scarce(manifest, layout, minimum))
    if lines:
        raise Problem(
            where,
            "; ".join(lines),
            expected=f"at least {minimum} for each task (policy.minimum_train)",
            remedy="label more images, or take the task out of the site's tasks",
        )


def _scarce(manifest: Manifest, layout: _Layout, minimum: int) -> Iterator[str]:
    for task in manifest.tasks:
        column = layout.columns[task][0]
        count = len(manifest.labels(task, "train"))
        if not any(task in case.labels for case in manifest.cases):
            yield f"column {column}: no labels at all for the task {task}"
        elif count < minimum:
            yield f"column {column}: {count} training labels for the task {task}"
