"""Validated cases -> tensors in memory, and batches of them.

Every case is read once. Which images form a batch, and how they are varied, is drawn from a generator whose seed names
the study, site, round, phase and epoch, so results do not depend on what ran before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyward_client.trainer import images
from polyward_client.trainer.form import shaped, shaped_mask
from polyward_client.trainer.manifest import SPLITS, Case, Manifest
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from polyward_shared.tasks import Binary, Regression, Segmentation

READERS = 8  # threads; decoding a file is short, and more of them only fight over the disk
SHARE_OF_MEMORY = 0.5  # of what is free, for images; the rest is for training
SHARE_OF_DEVICE = 0.25
SHOWN_ERRORS = 10
SCALE, SHIFT = 0.1, 0.05  # light augmentation: intensity times 0.9..1.1, plus or minus 0.05 of the range

Indices = NDArray[np.int64]
Loaded = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """`images` [batch, channels, *spatial]; `targets` and `labelled` (1 or 0) by task, only tasks with a label here.

    Targets are float [batch] (binary, regression), int64 [batch] (classes) or uint8 [batch, *spatial] (masks).
    """

    images: Tensor
    targets: dict[str, Tensor]
    labelled: dict[str, Tensor]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Dataset:
    """All cases of a site in the study's form."""

    images: Tensor
    targets: dict[str, Tensor]
    masks: dict[str, Tensor]  # [masks of the task, *spatial]; `targets` holds the place in here
    labelled: dict[str, NDArray[np.bool_]]
    splits: dict[str, Indices]

    def cases(self, split: str, task: str | None = None) -> Indices:
        """The places of a split's images, or of those labelled for one task."""
        places = self.splits[split]
        return places if task is None else places[self.labelled[task][places]]

    def batch(self, places: Indices, device: torch.device) -> Batch:
        index = torch.from_numpy(places)
        targets, labelled, counts = {}, {}, {}
        for task, present in self.labelled.items():
            chosen = present[places]
            if not chosen.any():
                continue
            counts[task] = int(chosen.sum())
            labelled[task] = _to(torch.from_numpy(chosen.astype(np.float32)), device)
            target = self.targets[task][index.to(self.targets[task].device)]
            targets[task] = _to(self.masks[task][target] if task in self.masks else target, device)
        return Batch(_to(self.images[index.to(self.images.device)], device), targets, labelled, counts)

    def only(self, task: str) -> Dataset:
        """The same images with the labels of one task."""
        masks = {name: value for name, value in self.masks.items() if name == task}
        return Dataset(self.images, {task: self.targets[task]}, masks, {task: self.labelled[task]}, self.splits)

    def moved(self, device: torch.device) -> Dataset:
        """On the GPU when there is ample room, else where it is."""
        size = sum(t.nbytes for t in (self.images, *self.masks.values()))
        if device.type != "cuda" or size > SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
            return self
        targets = {task: value.to(device) for task, value in self.targets.items()}
        masks = {task: value.to(device) for task, value in self.masks.items()}
        return Dataset(self.images.to(device), targets, masks, self.labelled, self.splits)


def load_dataset(
    manifest: Manifest, study: Study, *, loaded: Loaded = lambda done, of: None, budget: float | None = None
) -> Dataset:
    """Reads all cases; `loaded(done, of)` is told how far it is. `budget` in bytes. Raises `Problem`."""
    cases, image = manifest.cases, study.image
    per_mask = int(np.prod(image.size))
    mask_tasks = [task for task in manifest.tasks if isinstance(study.tasks[task], Segmentation)]
    holders = {task: [place for place, case in enumerate(cases) if task in case.labels] for task in mask_tasks}
    need = len(cases) * image.channels * per_mask * 4 + sum(len(places) for places in holders.values()) * per_mask
    _affordable(need, budget if budget is not None else SHARE_OF_MEMORY * psutil.virtual_memory().available)
    values = np.zeros((len(cases), image.channels, *image.size), np.float32)
    masks = {task: np.zeros((len(places), *image.size), np.uint8) for task, places in holders.items()}
    mask_of = {task: {place: row for row, place in enumerate(places)} for task, places in holders.items()}

    def read(place: int) -> str:
        case, dims = cases[place], len(image.size)
        try:
            picture = images.read_image(case.path, dims)
            values[place] = shaped(picture, image, where=case.path.name)
            for task in mask_tasks:
                if task in case.labels:
                    path = cast(Path, case.labels[task])
                    labels = images.read_mask(path, dims, classes=len(_classes(study, task)))
                    masks[task][mask_of[task][place]] = shaped_mask(labels, picture, image, where=path.name)
        except Problem as problem:
            return f"row {case.row}, {problem}"
        return ""

    errors = []
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        for done, error in enumerate(pool.map(read, range(len(cases))), start=1):
            errors += [error] if error else []
            loaded(done, len(cases))
    if errors:
        shown = errors[:SHOWN_ERRORS] + ([f"and {len(errors) - SHOWN_ERRORS} more"] if errors[SHOWN_ERRORS:] else [])
        raise Problem("the images", f"{len(errors)} cannot be used:\n  " + "\n  ".join(shown))
    targets = {task: _targets(cases, study, task, mask_of.get(task)) for task in manifest.tasks}
    labelled = {task: np.asarray([task in case.labels for case in cases]) for task in manifest.tasks}
    splits = {split: np.flatnonzero([case.split == split for case in cases]) for split in SPLITS}
    return Dataset(
        torch.from_numpy(values), targets, {t: torch.from_numpy(m) for t, m in masks.items()}, labelled, splits
    )


def epoch_batches(places: Indices, size: int, generator: np.random.Generator) -> Iterator[Indices]:
    """Every place once, in drawn order; a short rest joins the last batch rather than be a batch of one image."""
    order = generator.permutation(places)
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] < 2:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield order[start:end]


def augmented(batch: Batch, generator: np.random.Generator) -> Batch:
    """Left-right mirror for about half of the images with their masks, and a small change of intensity for all.

    The mirrored axis is the last in 2D (columns) and the first in 3D (right to left).
    """
    images, count = batch.images, len(batch.images)
    axis = 3 if images.ndim == 4 else 2
    mirror = generator.random(count) < 0.5
    scale = generator.uniform(1 - SCALE, 1 + SCALE, count).astype(np.float32)
    shift = generator.uniform(-SHIFT, SHIFT, count).astype(np.float32)
    chosen = _to(torch.from_numpy(np.flatnonzero(mirror)), images.device)
    factors = _to(torch.from_numpy(np.stack((scale, shift))), images.device).reshape(2, count, *[1] * (images.ndim - 1))
    images = images * factors[0] + factors[1] * (images != 0)  # padding stays padding
    images[chosen] = images[chosen].flip(axis)
    targets = dict(batch.targets)
    for task, target in targets.items():
        if target.ndim > 1:
            targets[task] = target.index_copy(0, chosen, target[chosen].flip(axis - 1))
    return Batch(images, targets, batch.labelled, batch.counts)


def target_statistics(dataset: Dataset, task: str) -> tuple[float, float]:
    """Mean and spread of a regression task's training labels; the spread of equal labels is 1."""
    values = dataset.targets[task][torch.from_numpy(dataset.cases("train", task))].double()
    spread = float(values.std(correction=0)) if len(values) else 0.0
    return float(values.mean()) if len(values) else 0.0, spread or 1.0


def _targets(cases: tuple[Case, ...], study: Study, task: str, mask_of: dict[int, int] | None) -> Tensor:
    if mask_of is not None:
        return torch.tensor([mask_of.get(place, 0) for place in range(len(cases))], dtype=torch.int64)
    floats = isinstance(study.tasks[task], Binary | Regression)
    labels = [case.labels.get(task, 0) for case in cases]
    return torch.tensor(labels, dtype=torch.float32 if floats else torch.int64)


def _classes(study: Study, task: str) -> tuple[str, ...]:
    found = study.tasks[task]
    return found.classes if isinstance(found, Segmentation) else ()


def _affordable(need: float, budget: float) -> None:
    if need > budget:
        raise Problem(
            "the images",
            f"need {need / 2**30:.2f} GiB of memory in the study's form",
            expected=f"at most {budget / 2**30:.2f} GiB",
            remedy="use fewer rows (data.rows), more memory, or ask for a study with a smaller image.size",
        )


def _to(value: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)
