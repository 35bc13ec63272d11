"""What a person gives to `predict`: a file, a folder of images, or a table -> the images to answer for, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas
from pydicom.misc import is_dicom

from polyward_client.site import Site
from polyward_client.trainer import dicom
from polyward_client.trainer.cells import Cell, CellError, inside
from polyward_client.trainer.images import SUFFIXES, UNREADABLE
from polyward_client.trainer.side import side_names, side_value
from polyward_shared.problems import Problem
from polyward_shared.study import Study

SHOWN_ERRORS = 10


@dataclass(frozen=True, slots=True)
class Input:
    """One image: `name` as the answers call it, `side` as `SideInputs` takes it, and the group that it belongs to."""

    name: str
    path: Path
    side: tuple[float, ...] = ()
    group: str | None = None


def find_inputs(source: Path, site: Site, study: Study, tasks: Sequence[str]) -> list[Input]:
    """The images that `source` names, `tasks` being all tasks of the model. Raises `Problem`.

    Of a folder: every image below it, and every DICOM series that a folder holds. Of a table: its rows, with the side
    inputs and groups that it states; elsewhere side inputs count as missing.
    """
    if not source.exists():
        raise Problem(str(source), "there is no such file or folder", remedy="check the path")
    if source.suffix.lower() == ".csv":
        return _of_table(source, site, study, tasks)
    unknown = (float("nan"),) * len(side_names(study, tasks))
    dims = len(study.image.size)
    if source.is_file():
        return [Input(source.name, source, unknown)]
    found = [Input(_name(path, source), path, unknown) for path in _below(source, dims)]
    if not found:
        raise Problem(
            str(source), "holds no image", expected=f"files that end in {', '.join(SUFFIXES)}, or DICOM series"
        )
    return found


def _below(folder: Path, dims: int) -> Iterator[Path]:
    """In the order of their names; what begins with a dot and links that lead out of the folder are passed over."""
    home = folder.resolve()
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    inner = [entry for entry in entries if entry.resolve().is_relative_to(home)]
    files = [entry for entry in inner if entry.is_file()]
    slices = [file for file in files if _is_dicom(file)]
    series = dims == 3 and bool(slices) and not any(_has_frames(file) for file in slices)
    if series:
        yield folder
    for entry in inner:
        if entry.is_dir() and not entry.is_symlink():
            yield from _below(entry, dims)
        elif entry in slices:
            if not series:
                yield entry
        elif entry.is_file() and entry.name.lower().endswith(tuple(SUFFIXES)):
            yield entry


def _is_dicom(file: Path) -> bool:
    """A file without a suffix may be one: scanners write `IM000001`."""
    return file.suffix.lower() == ".dcm" or (not file.suffix and is_dicom(file))


def _has_frames(file: Path) -> bool:
    try:
        return len(dicom.extent(file, 3)) == 3
    except (*UNREADABLE, Problem):
        return False  # the reader says what is wrong with it


def _of_table(path: Path, site: Site, study: Study, tasks: Sequence[str]) -> list[Input]:
    try:
        table = pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise Problem(str(path), f"cannot be read as CSV ({type(error).__name__})", expected="a table") from None
    if "path" not in table.columns:
        raise Problem(str(path), f"the columns {', '.join(table.columns)}", expected="also path, relative to the table")
    root = (site.root if path.resolve() == site.manifest.resolve() else path.parent).resolve()
    sides = [(study.side[name].column or name, study.side[name]) for name in side_names(study, tasks)]
    column = next((group for task in tasks if (group := getattr(study.tasks[task], "group", None))), None)
    inputs, errors = [], []
    for number, record in enumerate(table.to_dict("records"), start=2):
        row = {str(key): str(value).strip() for key, value in record.items()}
        try:
            file = inside(row["path"], root, "path")
            cells = [(side, Cell(name, row[name], root, ()) if row.get(name) else None) for name, side in sides]
            values = tuple(side_value(side, cell) for side, cell in cells)
        except CellError as error:
            errors.append(f"row {number}, {error}")
            continue
        inputs.append(Input(row["path"], file, values, row.get(column or "") or None))
    if errors:
        shown = errors[:SHOWN_ERRORS] + ([f"and {len(errors) - SHOWN_ERRORS} more"] if errors[SHOWN_ERRORS:] else [])
        raise Problem(str(path), f"{len(errors)} of {len(table)} rows are wrong:\n  " + "\n  ".join(shown))
    if not inputs:
        raise Problem(str(path), "no rows", expected="at least one")
    return inputs


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path != folder else folder.name
