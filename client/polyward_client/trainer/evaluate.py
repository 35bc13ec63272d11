"""A model on a split -> figures, each with the number of cases behind it. An undefined figure is absent, never zero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from polyward_client.trainer.bootstrap import intervals
from polyward_client.trainer.dataset import Batch, Dataset, Indices
from polyward_client.trainer.groups import grouped
from polyward_client.trainer.losses import case_losses
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.tasks import Figure
from polyward_shared.messages import AT_THE_END, Metric, Stage
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study

BATCH_FACTOR = 2  # no gradients are kept, so twice the training batch fits
WINDOW_OVERLAP = 0.25
FEWEST_PATIENTS = 5  # for an interval


@dataclass(frozen=True, slots=True)
class Gathered:
    """One task's labelled cases of a split, on the CPU; a group of images that share a label is one case."""

    losses: Tensor  # [n]
    answers: Tensor  # [n, ...], as the kind keeps them
    truths: Tensor  # [n, ...]
    patients: Indices  # [n]


def evaluate(
    model: MultiTaskModel, data: Dataset, study: Study, device: torch.device, *, stage: Stage, minimum: int = 1
) -> list[Metric]:
    """Every figure of every task on the study's evaluation splits, in float32; at the end with intervals.

    There are none from fewer than `minimum` patients, and the loss alone where figures together would tell of a group
    of fewer cases: sensitivity follows from specificity and balanced accuracy.
    """
    rows: list[Metric] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for split in study.evaluation.splits:
            for task, found in gathered(model, data, study, split, device).items():
                if len(np.unique(found.patients)) < minimum:
                    continue
                whole = model.kinds[task].smallest(found.truths) >= minimum
                bounds = _bounds(model, task, split, found) if stage in AT_THE_END else {}
                for name, value, count in figures(model, task, found):
                    if math.isfinite(value) and count > 0 and (whole or name == "loss"):
                        low, high = bounds.get(name, (None, None))
                        rows.append(Metric(task, split, stage, name, value, count, low, high))
    model.train(was_training)
    return rows


def figures(model: MultiTaskModel, task: str, found: Gathered) -> Iterator[Figure]:
    """The kind's figures and the mean loss."""
    yield from model.kinds[task].figures(found.answers, found.truths, model.head(task))
    yield "loss", float(found.losses.double().mean()), len(found.losses)


def gathered(
    model: MultiTaskModel, data: Dataset, study: Study, split: str, device: torch.device
) -> dict[str, Gathered]:
    """By task: what its labelled cases of a split gave."""
    noise = torch.Generator(device).manual_seed(seed_for(study.seed, "noise", split))
    found: dict[str, list[tuple[Tensor, ...]]] = {}
    for places in _chunks(data.cases(split), BATCH_FACTOR * study.training.batch):
        batch = data.batch(places, device)
        if not batch.counts:
            continue
        outputs = predict(model, batch, study, noise)
        for task, output in outputs.items():
            kept = batch.labelled[task] > 0
            answer, target = output[kept].float(), batch.targets[task][kept]
            rows = torch.from_numpy(places)[kept.cpu()]
            if model.kinds[task].level == "image":
                piece: tuple[Tensor, ...] = (answer.cpu(), target.cpu(), rows)
            else:
                losses, answers = case_losses(model, task, answer, target), model.kinds[task].answers(answer, target)
                piece = (losses.cpu(), answers.cpu(), rows)
            found.setdefault(task, []).append(piece)
    joined = {task: tuple(torch.cat(parts) for parts in zip(*pieces, strict=True)) for task, pieces in found.items()}
    return {task: _whole(model, data, task, parts) for task, parts in joined.items()}


def predict(
    model: MultiTaskModel, batch: Batch, study: Study, noise: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Outputs of the batch's tasks; by sliding windows where the study trains on windows."""
    tasks, window = tuple(batch.counts), study.image.window

    def seen(images: Tensor, side: Tensor | None) -> dict[str, Tensor]:
        pyramid = model.pyramid(images)
        return model.answer(pyramid, tuple(images.shape[2:]), tasks, side=side, noise=noise).final

    if window is None:
        return seen(batch.images, batch.side)

    def slid(images: Tensor, side: Tensor | None) -> dict[str, Tensor]:
        """All windows of one image have its side inputs."""
        found = sliding_window_inference(
            images,
            window,
            study.training.batch,
            lambda some: seen(some, None if side is None else side.expand(len(some), -1)),
            overlap=WINDOW_OVERLAP,
            mode="gaussian",
        )
        return dict(found)  # type: ignore[arg-type]

    side = batch.side
    if side is None:
        return slid(batch.images, None)
    each = [slid(batch.images[place : place + 1], side[place : place + 1]) for place in range(len(side))]
    return {task: torch.cat([found[task] for found in each]) for task in tasks}


def _whole(model: MultiTaskModel, data: Dataset, task: str, parts: tuple[Tensor, ...]) -> Gathered:
    first, second, rows = parts
    patients = data.patients[rows.numpy()]
    if model.kinds[task].level == "map":
        return Gathered(first, second, torch.zeros(len(first)), patients)
    if task in data.groups:
        numbers = data.groups[task][rows.numpy()]
        _, firsts = np.unique(numbers, return_index=True)
        first, second = grouped(first, second, torch.from_numpy(numbers), model.kinds[task].channels)
        patients = patients[firsts]
    head = model.head(task)
    device = next(head.parameters()).device
    losses = case_losses(model, task, first.to(device), second.to(device)).cpu()
    return Gathered(losses, first, second, patients)


def _bounds(model: MultiTaskModel, task: str, split: str, found: Gathered) -> dict[str, tuple[float, float]]:
    """The bootstrap interval of each figure, by resampled patients."""
    study = model.study

    def again(places: Indices) -> dict[str, float]:
        index = torch.from_numpy(places)
        part = Gathered(found.losses[index], found.answers[index], found.truths[index], found.patients[places])
        return {name: value for name, value, _ in figures(model, task, part)}

    # few patients stand out in an interval: with two, its ends are the two patients' own figures
    if len(np.unique(found.patients)) < FEWEST_PATIENTS or not study.evaluation.resamples:
        return {}
    generator = np.random.default_rng(seed_for(study.seed, "bootstrap", task, split))
    return intervals(again, found.patients, study.evaluation.resamples, generator)


def _chunks(places: Indices, size: int) -> Iterator[Indices]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
