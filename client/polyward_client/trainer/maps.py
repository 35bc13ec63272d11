"""One image's maps -> files on the image's own grid, and the cells that tell of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polyward_client.trainer.answers import Cells, place_cells
from polyward_client.trainer.form import unshaped
from polyward_client.trainer.grid import grid_of, write_labels, write_values
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks import TaskKind
from polyward_client.trainer.tasks.centreline import CentrelineKind
from polyward_client.trainer.tasks.segmentation import SegmentationKind
from polyward_client.trainer.tasks.synthesis import SynthesisKind
from polyward_client.trainer.topology.flow import entropy
from polyward_shared.study import Image

MM3_PER_ML = 1000.0


def map_cells(
    kind: TaskKind,
    output: Tensor,
    picture: Picture,
    image: Image,
    *,
    path: Path,
    stem: Path,
    home: Path,
    probabilities: bool = False,
) -> Cells:
    """Writes what a map task says [channels, *spatial] of the image in `path` to `<stem>.<task>...` below `home`.

    Probabilities are brought to the image's grid first and compared there, so that borders are not steps of the
    study's coarser grid. Returns the cells of the table. Raises `Problem`.
    """
    if not isinstance(kind, SegmentationKind | CentrelineKind | SynthesisKind):
        return place_cells(kind, output, picture, image)
    stem.parent.mkdir(parents=True, exist_ok=True)
    grid = grid_of(path, picture)
    given = kind.evidence(output[None])
    values = unshaped(given[0].numpy(), picture, image, where=path.name)
    beside = stem.with_name(f"{stem.name}.{kind.name}")
    if isinstance(kind, SynthesisKind):
        return {kind.name: _named(write_values(beside, values, grid), home)}
    labels = np.asarray(values.argmax(0), np.uint8)
    cells = {kind.name: _named(write_labels(beside, labels, grid), home)}
    names = kind.task.classes if isinstance(kind, SegmentationKind) else ("tube",)
    one = math.prod(picture.spacing) / MM3_PER_ML if picture.spacing and len(picture.spacing) == 3 else None
    for number, name in enumerate(names, start=1):
        count = int((labels == number).sum())
        cells[f"{kind.name}.voxels.{name}"] = str(count)
        if one is not None:
            cells[f"{kind.name}.ml.{name}"] = f"{count * one:.4g}"
    cells[f"{kind.name}.entropy"] = f"{_doubt(given):.4f}"
    if probabilities:
        kept = write_values(stem.with_name(f"{stem.name}.{kind.name}.p_uncalibrated"), values, grid)
        cells[f"{kind.name}.p_uncalibrated"] = _named(kept, home)
    return cells


def _doubt(given: Tensor) -> float:
    """Mean entropy, as a share of the largest, over the places that are called something; over all if none is."""
    doubt, called = entropy(given)[:, 0], given.argmax(1) > 0
    return float(doubt[called].mean() if called.any() else torch.mean(doubt))


def _named(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix()
