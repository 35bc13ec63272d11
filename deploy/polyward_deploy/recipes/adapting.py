"""From a real data set's folders to a site: manifest, site files, and its images in forms that polyward reads.

An adapter yields rows whose cells are texts, files to be used as they are, or files to be made from others. Only
`write_site` touches the disk for writing, and never in the data set's own folder.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyward_deploy.generated import FIXED, write_manifest
from polyward_shared.problems import Problem

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Made:
    """A file that is made from others: its name, and the array with, for a volume, its affine [4, 4].

    A picture is [height, width] or [height, width, 3] for `.png`, [channels, height, width] for `.npy`; a volume is
    [x, y, z] or [x, y, z, channels] for `.nii.gz`.
    """

    name: str
    values: Callable[[], tuple[Array, Array | None]]


Cell = str | Path | Made
Row = dict[str, Cell]
Rows = Callable[[Path], Iterator[Row]]
SHARES = (0.7, 0.15, 0.15)


def write_site(rows: Iterable[Row], folder: Path, *, name: str, tasks: Mapping[str, Sequence[str]]) -> list[Path]:
    """Writes `manifest.csv`, the files that it names, and a site file for each value of a column `site` (else one).

    `tasks` are the study's, each with its columns; a site has those with a label. Files that are used as they are
    become hard links, or copies on another disk. Raises `Problem`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [{column: _placed(cell, folder, column) for column, cell in row.items()} for row in rows]
    if not written:
        raise Problem(str(folder), "the adapter found no images", remedy="check the data set's folder")
    columns = list(dict.fromkeys(column for row in written for column in row if column not in FIXED))
    write_manifest(folder, columns, written)
    paths = []
    for site in sorted({row.get("site", "") for row in written}):
        here = [row for row in written if row.get("site", "") == site]
        held = [task for task, own in tasks.items() if not own or any(row.get(c) for row in here for c in own)]
        path = folder / (f"site-{site}.toml" if site else "site.toml")
        path.write_text(_site_text(site or name, held, {"site": site} if site else {}), encoding="utf-8")
        paths.append(path)
    return paths


def split_of(patient: str, shares: tuple[float, float, float] = SHARES) -> str:
    """train, val or test, from the patient's identifier alone: the same everywhere, and one for all of his images."""
    place = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:6]) / 2**48
    return "train" if place < shares[0] else "val" if place < shares[0] + shares[1] else "test"


def files_in(folder: Path, pattern: str, *, data_set: str) -> list[Path]:
    """The files that fit the pattern, sorted. Raises `Problem` when there are none."""
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not found:
        raise _misfit(folder, f"holds no {pattern}", data_set)
    return found


def one_in(folder: Path, pattern: str, *, data_set: str) -> Path:
    """The only file that fits the pattern. Raises `Problem`."""
    found = files_in(folder, pattern, data_set=data_set)
    if len(found) > 1:
        raise _misfit(folder, f"holds {len(found)} files like {pattern}, not one", data_set)
    return found[0]


def table(path: Path, columns: Sequence[str], *, data_set: str) -> list[dict[str, str]]:
    """The rows of a CSV file, which must have these columns. Raises `Problem`."""
    if not path.is_file():
        if path.with_suffix(".xlsx").is_file():
            raise Problem(str(path), "is there only as a spreadsheet", remedy=f"save it as {path.name} beside it")
        raise _misfit(path, "there is no such file", data_set)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(file)]
    if missing := [column for column in columns if not rows or column not in rows[0]]:
        raise _misfit(path, f"lacks the column {missing[0]}", data_set)
    return rows


def recoded(source: Path, name: str, values: Mapping[int, int]) -> Made:
    """A mask picture with other numbers: `values` from those of the file to ours; any other becomes 0."""

    def make() -> tuple[Array, Array | None]:
        with Image.open(source) as image:
            found = np.asarray(image.convert("L"))
        labels = np.zeros_like(found)
        for theirs, ours in values.items():
            labels[found == theirs] = ours
        return labels, None

    return Made(name, make)


def repainted(source: Path, name: str) -> Made:
    """A picture of a kind that polyward does not read, such as BMP, in colour."""

    def make() -> tuple[Array, Array | None]:
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB")), None

    return Made(name, make)


def stacked(sources: Sequence[Path], name: str) -> Made:
    """Volumes on one grid as the channels of one file. Raises `Problem` when their grids differ."""

    def make() -> tuple[Array, Array | None]:
        volumes = [volume(source) for source in sources]
        for source, (values, _) in zip(sources, volumes, strict=True):
            if values.shape != volumes[0][0].shape:
                raise Problem(str(source), f"has the shape {values.shape}", expected=str(volumes[0][0].shape))
        return np.stack([values for values, _ in volumes], axis=-1), volumes[0][1]

    return Made(name, make)


def volume(path: Path) -> tuple[Array, Array]:
    """The values and the affine of a NIfTI file. Raises `Problem`."""
    try:
        image: Any = nib.load(path)
        return np.asarray(image.dataobj), np.asarray(image.affine)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise Problem(str(path), f"cannot be read as NIfTI ({type(error).__name__})", remedy="copy it again") from None


def _misfit(place: Path, found: str, data_set: str) -> Problem:
    return Problem(
        str(place),
        found,
        expected=f"the folders of {data_set} as the recipe's README shows them",
        remedy="give the folder that holds them, or rename what your copy names otherwise",
    )


def _placed(cell: Cell, folder: Path, column: str) -> str:
    """The cell's text; a file is put below `folder` first."""
    if isinstance(cell, str):
        return cell
    below = folder / ("images" if column == "path" else column)
    below.mkdir(parents=True, exist_ok=True)
    if isinstance(cell, Path):
        # the folder's name keeps files of equal names apart
        target = below / f"{hashlib.sha256(str(cell.parent).encode()).hexdigest()[:8]}-{cell.name}"
        target.unlink(missing_ok=True)
        try:
            os.link(cell.resolve(), target)
        except OSError:
            shutil.copyfile(cell, target)
        return str(target.relative_to(folder))
    target = below / cell.name
    values, affine = cell.values()
    if target.suffix == ".png":
        Image.fromarray(values).save(target)
    elif target.suffix == ".npy":
        np.save(target, values)
    else:
        nib.save(nib.Nifti1Image(values, affine), target)  # type: ignore[no-untyped-call]
    return str(target.relative_to(folder))


def _site_text(name: str, tasks: Sequence[str], rows: Mapping[str, str]) -> str:
    chosen = "".join(f"rows.{json.dumps(key)} = {json.dumps(value)}\n" for key, value in rows.items())
    return f"""\
# Written by `polyward-sim adapt`. Check the manifest before use: the adapter trusts the folder names.

name = {json.dumps(name)}
tasks = {json.dumps(list(tasks))}

[data]
root = "."
{chosen}
[device]
kind = "auto"
"""
