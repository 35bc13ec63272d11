"""A model on a split -> figures, each with the number of cases behind it. An undefined figure is absent, never zero."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_cohen_kappa,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)
from torchmetrics.functional.regression import r2_score

from polyward_client.trainer.dataset import Dataset, Indices
from polyward_client.trainer.losses import case_losses
from polyward_client.trainer.model import MultiTaskModel
from polyward_shared.messages import Metric, Stage
from polyward_shared.study import Study
from polyward_shared.tasks import Binary, Multiclass, Ordinal, Regression, Segmentation

Figure = tuple[str, float, int]  # name, value, cases
BATCH_FACTOR = 2  # no gradients are kept, so twice the training batch fits


def evaluate(model: MultiTaskModel, data: Dataset, study: Study, device: torch.device, *, stage: Stage) -> list[Metric]:
    """Every figure of every task on the study's evaluation splits, in float32."""
    rows: list[Metric] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for split in study.evaluation.splits:
            gathered = _gathered(model, data, study, split, device)
            for task, (losses, answers, truths) in gathered.items():
                for name, value, count in figures(model, study, task, losses, answers, truths):
                    if math.isfinite(value) and count > 0:
                        rows.append(Metric(task=task, split=split, stage=stage, name=name, value=value, count=count))
    model.train(was_training)
    return rows


def figures(
    model: MultiTaskModel, study: Study, task: str, losses: Tensor, answers: Tensor, truths: Tensor
) -> Iterator[Figure]:
    """Figures of one task from its labelled cases: losses [n], answers as `_answers` gives them, truths [n]."""
    count = len(losses)
    match study.tasks[task]:
        case Binary():
            whole = truths.long()
            if _several(whole):
                yield "auroc", float(binary_auroc(answers[:, 0], whole)), count
                yield "balanced_accuracy", _balanced((answers[:, 0] > 0).long(), whole, 2), count
        case Multiclass(classes=classes):
            chosen = answers.argmax(1)
            if _several(truths):
                yield "balanced_accuracy", _balanced(chosen, truths, len(classes)), count
                yield "macro_f1", float(multiclass_f1_score(chosen, truths, len(classes), average="macro")), count
        case Ordinal(classes=classes):
            chosen = (answers > 0).sum(1)  # thresholds passed with probability above one half
            if _several(truths):
                yield "kappa", float(multiclass_cohen_kappa(chosen, truths, len(classes), weights="quadratic")), count
            yield "mae", float((chosen - truths).abs().double().mean()), count
        case Regression():
            mean, spread = model.scale(task).cpu()
            values = answers[:, 0] * spread + mean
            yield "mae", float((values - truths).abs().double().mean()), count
            if _several(truths):
                yield "r2", float(r2_score(values.double(), truths.double())), count
        case Segmentation():
            bearing = ~answers[:, 0].isnan()
            if bearing.any():
                yield "dice", float(answers[bearing, 0].double().mean()), int(bearing.sum())
    yield "loss", float(losses.double().mean()), count


def _several(truths: Tensor) -> bool:
    """Whether more than one value occurs; without that, agreement and ranking are undefined."""
    return bool((truths != truths[0]).any())


def _balanced(chosen: Tensor, truths: Tensor, classes: int) -> float:
    """Mean recall over the classes that occur."""
    table = multiclass_confusion_matrix(chosen, truths, classes).double()
    cases = table.sum(1)
    return float((table.diagonal() / cases)[cases > 0].mean())


def _gathered(
    model: MultiTaskModel, data: Dataset, study: Study, split: str, device: torch.device
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """By task: losses [n], answers [n, ...] and truths [n] of the split's labelled cases, on the CPU."""
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
    for places in _chunks(data.cases(split), BATCH_FACTOR * study.training.batch):
        batch = data.batch(places, device)
        if not batch.counts:
            continue
        outputs = model(batch.images, tuple(batch.counts))
        for task, output in outputs.items():
            kept = batch.labelled[task] > 0
            target = batch.targets[task][kept]
            losses = case_losses(model, task, output[kept], target, study)
            if isinstance(study.tasks[task], Segmentation):
                answers, target = dice(output[kept], target)[:, None], target.flatten(1).amax(1)
            else:
                answers = output[kept].float()
            found.setdefault(task, []).append((losses.cpu(), answers.cpu(), target.cpu()))
    return {
        task: (torch.cat([p[0] for p in pieces]), torch.cat([p[1] for p in pieces]), torch.cat([p[2] for p in pieces]))
        for task, pieces in found.items()
    }


def dice(output: Tensor, target: Tensor) -> Tensor:
    """Hard Dice of each case [batch], averaged over the foreground classes in its mask; NaN where there is none.

    2|A and B| / (|A| + |B|) with the class of the largest logit; logits [batch, C, *spatial], labels [batch, *spatial].
    """
    chosen, target = output.argmax(1).flatten(1), target.flatten(1)
    scores = []
    for label in range(1, output.shape[1]):
        a, b = chosen == label, target == label
        size = b.sum(1)
        score = 2 * (a & b).sum(1) / (a.sum(1) + size).clamp(min=1)
        scores.append(torch.where(size > 0, score, torch.nan))
    return torch.stack(scores, 1).nanmean(1)


def _chunks(places: Indices, size: int) -> Iterator[Indices]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
