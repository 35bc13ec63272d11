"""`polyward-node predict`: images in; a table, masks and attention maps out. Nothing of it leaves.

Images go the very way that they go in training: `read_image`, `shaped`, the model in evaluation, by sliding windows
where the study trains on windows.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from polyward_client.site import Site
from polyward_client.trainer.answers import UNCALIBRATED, Cells, image_cells
from polyward_client.trainer.calibration import Calibration, calibrations
from polyward_client.trainer.dataset import READERS
from polyward_client.trainer.evaluate import BATCH_FACTOR
from polyward_client.trainer.finished import Finished
from polyward_client.trainer.form import shaped
from polyward_client.trainer.gradcam import EXPLAINED, attended, write_overlay
from polyward_client.trainer.grid import grid_of
from polyward_client.trainer.groups import grouped
from polyward_client.trainer.images import SUFFIXES, Picture, read_image
from polyward_client.trainer.inputs import Input, find_inputs
from polyward_client.trainer.maps import map_cells
from polyward_client.trainer.outputs import whole_folder
from polyward_shared.problems import Problem
from polyward_shared.study import Study

TABLE = "predictions.csv"
MASKS, ATTENTION = "maps", "attention"  # folders
Watch = Callable[[str, int, int], None]  # what is done, how far, of how many


@dataclass(frozen=True, slots=True)
class Asked:
    """What the table gets besides the answers."""

    explain: bool = False
    probabilities: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What `predict_images` did: `failed` are names of images with what was wrong with them."""

    images: int
    failed: dict[str, str]
    calibrations: dict[str, Calibration]


@dataclass(slots=True)
class _Row:
    """One image on its way into the table."""

    given: Input
    cells: Cells
    outputs: dict[str, Tensor]  # of image-level tasks, which wait for the other images of their group
    problem: str = ""


def predict_images(finished: Finished, site: Site, source: Path, output: Path, asked: Asked, watch: Watch) -> Told:
    """Answers for every image of `source` in the new folder `output`, whole or not at all. Raises `Problem`."""
    every = next(iter(finished.models.values())).tasks
    inputs = find_inputs(source, site, finished.study, every)
    with whole_folder(output) as home:
        fitted = calibrations(finished, site, lambda done, of: watch("reading validation images", done, of))
        rows: list[_Row] = []
        size = BATCH_FACTOR * finished.study.training.batch
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(inputs), size):
                rows += _answered(finished, inputs[start : start + size], pool, home, asked)
                watch("answering", len(rows), len(inputs))
        failed = {row.given.name: row.problem for row in rows if row.problem}
        if len(failed) == len(rows):
            name, problem = next(iter(failed.items()))
            raise Problem(str(source), f"none of {len(rows)} images can be used; of {name}: {problem}")
        _pool_groups(finished, rows, fitted)
        _write(home / TABLE, rows)
    return Told(len(rows), failed, fitted)


def _answered(
    finished: Finished, some: Sequence[Input], pool: ThreadPoolExecutor, home: Path, asked: Asked
) -> Iterator[_Row]:
    """The rows of one batch; an image that cannot be used gets its row too."""
    read = list(pool.map(lambda given: _read(given, finished.study), some))
    usable = [found for found in read if not isinstance(found, str)]
    if usable:
        images = torch.stack([values for _, values, _ in usable])
        side = torch.tensor([given.side for given, _, _ in usable]) if usable[0][0].side else None
        outputs = finished.outputs(images, side)
    place = 0
    for given, found in zip(some, read, strict=True):
        row = _Row(given, {}, {})
        if isinstance(found, str):
            row.problem = found
        else:
            own = {task: each[place] for task, each in outputs.items()}
            row.cells, row.outputs = _told(finished, found, own, home, asked)
            place += 1
        yield row


def _read(given: Input, study: Study) -> tuple[Input, Tensor, Picture] | str:
    try:
        picture = read_image(given.path, len(study.image.size))
        return given, torch.from_numpy(shaped(picture, study.image, where=given.path.name)).float(), picture
    except Problem as problem:
        return problem.found


def _told(
    finished: Finished, found: tuple[Input, Tensor, Picture], outputs: Mapping[str, Tensor], home: Path, asked: Asked
) -> tuple[Cells, dict[str, Tensor]]:
    """The cells of one image's map tasks and its attention maps; the outputs of its image-level tasks."""
    (given, values, picture), image = found, finished.study.image
    cells: Cells = {}
    waiting: dict[str, Tensor] = {}
    for task, output in outputs.items():
        model = finished.model(task)
        kind = model.kinds[task]
        if kind.level == "map":
            stem = home / MASKS / stem_of(given.name)
            cells |= map_cells(
                kind, output, picture, image, path=given.path, stem=stem, home=home, probabilities=asked.probabilities
            )
            continue
        waiting[task] = output
        cells[task] = ""  # keeps its place among the columns
        if asked.explain and isinstance(kind, EXPLAINED):
            side = torch.tensor([given.side], device=finished.device) if given.side else None
            seen = attended(model, task, values[None].to(finished.device), side)
            for name, attention in seen.items():
                stem = home / ATTENTION / f"{stem_of(given.name)}.{task}.{_plain(name)}"
                write_overlay(stem, attention, picture, image, grid_of(given.path, picture), given.path.name)
    return cells, waiting


def _pool_groups(finished: Finished, rows: Sequence[_Row], fitted: Mapping[str, Calibration]) -> None:
    """Fills in the image-level cells: those of a group are the same in all of its rows; alone, an image is a group."""
    answered = [row for row in rows if not row.problem]
    for task in finished.tasks:
        model = finished.model(task)
        kind = model.kinds[task]
        if kind.level == "map":
            continue
        own = [row.outputs[task] for row in answered]
        numbers = list(range(len(answered)))
        if getattr(finished.study.tasks[task], "group", None):
            first: dict[str, int] = {}
            numbers = [first.setdefault(row.given.group or f"\0{place}", place) for place, row in enumerate(answered)]
        places = torch.tensor(numbers)
        pooled, _ = grouped(torch.stack(own), places, places, kind.channels)
        order = {number: place for place, number in enumerate(torch.unique(places).tolist())}
        for row, number in zip(answered, numbers, strict=True):
            answer = pooled[order[number]]
            row.cells |= image_cells(kind, answer, model.head(task), fitted.get(task, UNCALIBRATED))


def stem_of(name: str) -> str:
    """What an image's files are called: those of `a.png` begin with `a_png`, those of `a.nii.gz` with `a_nii_gz`."""
    path = PurePosixPath(name)
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return str(path.with_name(f"{path.name[: -len(suffix)]}_{suffix[1:].replace('.', '_')}"))
    return name


def _plain(name: str) -> str:
    """A class's name as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)


def _write(path: Path, rows: Sequence[_Row]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in _by_task(row)))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *columns, "problem"])
        for row in rows:
            writer.writerow([row.given.name, *(row.cells.get(column, "") for column in columns), row.problem])


def _by_task(row: _Row) -> list[str]:
    """A row's columns, those of a task together, in the order in which tasks were answered."""
    order = list(dict.fromkeys(column.split(".")[0] for column in row.cells))
    return sorted(row.cells, key=lambda column: order.index(column.split(".")[0]))
