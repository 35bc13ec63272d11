"""Validated cases -> tensors in memory, and batches of them.

Every case is read once. Which images form a batch, and how they are varied, is drawn from a generator whose seed names
the study, site, round, phase and epoch, so results do not depend on what ran before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyward_client.trainer import images
from polyward_client.trainer.augment import Moved, augmented
from polyward_client.trainer.form import shaped
from polyward_client.trainer.manifest import SPLITS, Manifest
from polyward_client.trainer.side import side_names
from polyward_client.trainer.tasks import Kinds, kinds_of
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from polyward_shared.training import Augmentation

READERS = 8  # threads; decoding a file is short, and more of them only fight over the disk
SHARE_OF_MEMORY = 0.5  # of what is free, for images; the rest is for training
SHARE_OF_DEVICE = 0.25
SHOWN_ERRORS = 10

Indices = NDArray[np.int64]
Loaded = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """`images` [batch, channels, *spatial]; `targets` [batch, ...] and `labelled` (1 or 0) by task, tasks with a label.

    `groups` has a number for each image of a task whose label belongs to several, -1 without; `side` [batch, inputs].
    """

    images: Tensor
    targets: dict[str, Tensor]
    labelled: dict[str, Tensor]
    counts: dict[str, int]
    groups: dict[str, Tensor] = field(default_factory=dict)
    side: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """All cases of a site in the study's form."""

    images: Tensor
    targets: dict[str, Tensor]  # [1 + labelled cases of the task, ...]; the first is blank
    rows: dict[str, Tensor]  # [cases]: where a case's target lies in there; 0 for a case without one
    labelled: dict[str, NDArray[np.bool_]]
    splits: dict[str, Indices]
    patients: Indices  # [cases]: a number for each patient
    groups: dict[str, Indices] = field(default_factory=dict)  # [cases], by task; -1 for none
    side: Tensor | None = None  # [cases, inputs]
    inputs: tuple[str, ...] = ()  # the names of the columns of `side`

    def cases(self, split: str, task: str | None = None) -> Indices:
        """The places of a split's images, or of those labelled for one task."""
        places = self.splits[split]
        return places if task is None else places[self.labelled[task][places]]

    def training_targets(self, task: str) -> Tensor:
        """The targets of the training cases that are labelled for a task, on the CPU."""
        rows = self.rows[task][torch.from_numpy(self.cases("train", task))]
        return self.targets[task][rows].cpu()

    def batch(self, places: Indices, device: torch.device) -> Batch:
        index = torch.from_numpy(places)
        targets, labelled, counts, groups = {}, {}, {}, {}
        for task, present in self.labelled.items():
            chosen = present[places]
            if not chosen.any():
                continue
            counts[task] = int(chosen.sum())
            labelled[task] = _to(torch.from_numpy(chosen.astype(np.float32)), device)
            store = self.targets[task]
            targets[task] = _to(store[_to(self.rows[task][index], store.device)], device)
            if task in self.groups:
                groups[task] = _to(torch.from_numpy(self.groups[task][places]), device)
        side = None if self.side is None else _to(self.side[index], device)
        images = self.images[_to(index, self.images.device)]
        return Batch(_to(images, device), targets, labelled, counts, groups, side)

    def only(self, task: str, inputs: tuple[str, ...] = ()) -> Dataset:
        """The same images with the labels of one task, and these of the side inputs."""
        groups = {task: self.groups[task]} if task in self.groups else {}
        columns = [self.inputs.index(name) for name in inputs]
        return replace(
            self,
            targets={task: self.targets[task]},
            rows={task: self.rows[task]},
            labelled={task: self.labelled[task]},
            groups=groups,
            side=self.side[:, columns] if self.side is not None and columns else None,
            inputs=inputs,
        )

    def moved(self, device: torch.device) -> Dataset:
        """On the GPU when there is ample room, else where it is."""
        size = sum(t.nbytes for t in (self.images, *self.targets.values()))
        if device.type != "cuda" or size > SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
            return self
        targets = {task: value.to(device) for task, value in self.targets.items()}
        return replace(self, images=self.images.to(device), targets=targets)


def load_dataset(
    manifest: Manifest,
    study: Study,
    *,
    loaded: Loaded = lambda done, of: None,
    budget: float | None = None,
    folder: Path | None = None,
) -> Dataset:
    """Reads all cases; `loaded(done, of)` is told how far it is. `budget` in bytes. Raises `Problem`.

    With a `folder`, images and targets lie in files there that are mapped into memory, and `budget` does not count.
    """
    cases, image = manifest.cases, study.image
    kinds = kinds_of(study, manifest.tasks)
    blanks = {task: kind.blank(image) for task, kind in kinds.items()}
    holders = {task: [place for place, case in enumerate(cases) if task in case.labels] for task in kinds}
    place_of = {task: {place: row for row, place in enumerate(places, start=1)} for task, places in holders.items()}
    shapes = {task: (1 + len(places), *blanks[task].shape) for task, places in holders.items()}
    whole = (len(cases), image.channels, *image.size)
    need = math.prod(whole) * 4 + sum(math.prod(shape) * blanks[task].itemsize for task, shape in shapes.items())
    if folder is None:
        _affordable(need, budget if budget is not None else SHARE_OF_MEMORY * psutil.virtual_memory().available)
    values = _room(folder, "images", whole, np.dtype(np.float32))
    # the dot keeps a task with the name `images` out of their file
    targets = {task: _room(folder, f"target.{task}", shape, blanks[task].dtype) for task, shape in shapes.items()}
    for task, target in targets.items():
        target[0] = blanks[task]

    def read(place: int) -> str:
        case, dims = cases[place], len(image.size)
        try:
            picture = images.read_image(case.path, dims)
            values[place] = shaped(picture, image, where=case.path.name)
            for task, label in case.labels.items():
                targets[task][place_of[task][place]] = kinds[task].target(label, picture, image)
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
    every = range(len(cases))
    return Dataset(
        images=torch.from_numpy(values),
        targets={task: torch.from_numpy(target) for task, target in targets.items()},
        rows={task: torch.tensor([place_of[task].get(place, 0) for place in every]) for task in kinds},
        labelled={task: np.asarray([task in case.labels for case in cases]) for task in kinds},
        splits={split: np.flatnonzero([case.split == split for case in cases]) for split in SPLITS},
        patients=_numbered([case.patient for case in cases]),
        groups={
            task: _numbered([case.groups.get(task) for case in cases])
            for task in kinds
            if getattr(study.tasks[task], "group", None)
        },
        side=torch.tensor([case.side for case in cases], dtype=torch.float32) if cases and cases[0].side else None,
        inputs=side_names(study, manifest.tasks),
    )


def epoch_batches(
    places: Indices, size: int, generator: np.random.Generator, groups: Indices | None = None
) -> Iterator[Indices]:
    """Every place once, in drawn order; a short rest joins the last batch rather than be a batch of one image.

    With `groups` [cases], a group is never divided: a batch ends before one that does not fit any more, and one that is
    larger than `size` is a batch of its own.
    """
    order = generator.permutation(places)
    if groups is None:
        starts = list(range(0, len(order), size))
    else:
        turn = generator.permutation(int(groups.max()) + 2)  # images without a group come at a turn of their own
        order = order[np.argsort(turn[groups[order]], kind="stable")]
        starts = _between_groups(groups[order], size)
    if len(starts) > 1 and len(order) - starts[-1] < 2:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield order[start:end]


def endless_batches(
    places: Indices, size: int, generator: np.random.Generator, groups: Indices | None = None
) -> Iterator[Indices]:
    """Batches of one pass after the other, each as `epoch_batches` draws it; none without places."""
    while len(places):
        yield from epoch_batches(places, size, generator, groups)


def _between_groups(groups: Indices, size: int) -> list[int]:
    """Where batches of at most `size` begin in a row of images, each group of which stands together; -1 is no group."""
    opens = np.flatnonzero((groups != np.roll(groups, 1)) | (groups < 0)) if len(groups) > 1 else np.zeros(1, int)
    borders = [0, *opens[opens > 0].tolist(), len(groups)]
    starts = [0]
    for begin, end in pairwise(borders):
        if end - starts[-1] > size and begin > starts[-1]:
            starts.append(begin)
    return starts


def varied(batch: Batch, kinds: Kinds, preset: Augmentation, generator: np.random.Generator) -> Batch:
    """The images changed as the preset says, and every target that moves with them."""
    moved = {
        task: Moved(kinds[task].moves, target, kinds[task].fill)  # type: ignore[arg-type]
        for task, target in batch.targets.items()
        if kinds[task].moves != "not"
    }
    images, targets = augmented(batch.images, moved, preset, generator)
    return replace(batch, images=images, targets={**batch.targets, **targets})


def windows(batch: Batch, kinds: Kinds, size: tuple[int, ...], generator: np.random.Generator) -> Batch:
    """One window of this spatial size from each image, half of them around a labelled place where there is one."""
    count, sides = len(batch.images), batch.images.shape[2:]
    room = np.asarray(sides) - np.asarray(size)
    corners = np.stack([generator.integers(0, room + 1) for _ in range(count)])
    marked = [
        partial(_marked, target, kinds[task].moves, kinds[task].fill, len(size))
        for task, target in batch.targets.items()
        if kinds[task].moves in {"labels", "points", "boxes"}
    ]
    for place in np.flatnonzero(generator.random(count) < 0.5) if marked else ():
        there = marked[place % len(marked)](int(place))
        if len(there):
            centre = there[generator.integers(len(there))]
            corners[place] = np.clip(centre - np.asarray(size) // 2, 0, room)
    cut = partial(_cut, corners=corners, size=size)
    targets = {
        task: cut(target)
        if kinds[task].moves in {"labels", "image"}
        else _shifted(target, kinds[task].moves, corners, size)
        for task, target in batch.targets.items()
    }
    return replace(batch, images=cut(batch.images), targets=targets)


def _cut(values: Tensor, corners: Indices, size: tuple[int, ...]) -> Tensor:
    """[batch, (channels,) *spatial] -> the same with `size`, from each image's corner."""
    lead = values.ndim - 1 - len(size)
    cuts = []
    for place, corner in enumerate(corners):
        inside = tuple(slice(int(start), int(start) + side) for start, side in zip(corner, size, strict=True))
        cuts.append(values[place][(slice(None),) * lead + inside])
    return torch.stack(cuts)


def _marked(target: Tensor, moves: str, ignored: int, dims: int, place: int) -> Indices:
    """The labelled places [n, dims] of one case: of its mask, without those that nobody judged; its points or boxes."""
    own = target[place]
    if moves == "labels":
        return torch.nonzero((own != 0) & (own != ignored)).cpu().numpy()
    places = own if moves == "points" else (own[:, :dims] + own[:, dims : 2 * dims]) / 2
    return places[places.isfinite().all(-1)].round().long().cpu().numpy()


def _shifted(target: Tensor, moves: str, corners: Indices, size: tuple[int, ...]) -> Tensor:
    """Points and boxes in the window's own places, pixels reaching half a step beyond their centres; those outside it
    are as unknown."""
    dims = len(size)
    start = torch.from_numpy(corners).to(target)[:, None]
    limit = torch.tensor(size).to(target)
    if moves == "points":
        places = target - start
        outside = ((places < -0.5) | (places > limit - 0.5)).any(-1, keepdim=True)
        return places.masked_fill(outside, math.nan)
    low, high = target[..., :dims] - start, target[..., dims : 2 * dims] - start
    middle = (low + high) / 2
    outside = ((middle < -0.5) | (middle > limit - 0.5)).any(-1, keepdim=True)
    whole = torch.cat((low.clamp(min=-0.5), torch.minimum(high, limit - 0.5), target[..., 2 * dims :]), -1)
    return whole.masked_fill(outside, math.nan)


def _numbered(names: Sequence[str | None]) -> Indices:
    """Numbers from 0 in the order of first appearance; -1 for None."""
    known: dict[str, int] = {}
    return np.asarray([-1 if name is None else known.setdefault(name, len(known)) for name in names], np.int64)


def _room(folder: Path | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros in memory, or in a file that is mapped into memory."""
    if folder is None:
        return np.zeros(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def _affordable(need: float, budget: float) -> None:
    if need > budget:
        raise Problem(
            "the images",
            f"need {need / 2**30:.2f} GiB of memory in the study's form",
            expected=f"at most {budget / 2**30:.2f} GiB",
            remedy="use fewer rows (data.rows), more memory, or ask for a study with a smaller image.size",
        )


def _to(value: Tensor, device: torch.device) -> Tensor:
    """The value on the device, without a wait for it."""
    if device.type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)
