"""Outputs and targets -> one loss per task, over the labelled cases alone.

A task without a label in the batch has no entry, nor has one whose labels can teach nothing here, such as a Cox risk
set without an event: an entry of zero would slow, stop or mislead every balancer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polyward_client.trainer.dataset import Batch
from polyward_client.trainer.groups import grouped
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.topology.flow import Outputs

EARLY_WEIGHT = 0.5  # of first predictions that a branch makes on the way, beside its last one


def task_losses(model: MultiTaskModel, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
    """A scalar for each task that has a label in the batch which can teach something."""
    losses: dict[str, Tensor] = {}
    for name, labelled in batch.counts.items():
        marks = informing(model, name, batch)
        count = labelled if marks is None else int(marks.sum())
        if not count:
            continue
        losses[name] = task_loss(model, name, outputs.final[name], batch, count, marks)
        if early := outputs.early.get(name):
            mean = torch.stack([task_loss(model, name, each, batch, count, marks) for each in early]).mean()
            losses[name] = losses[name] + EARLY_WEIGHT * mean
    return losses


def informing(model: MultiTaskModel, name: str, batch: Batch) -> Tensor | None:
    """Marks [batch], or [groups], of the labelled cases that can teach something; None where all do by their kind."""
    kind, target = model.kinds[name], batch.targets[name]
    if not kind.may_be_void:
        return None
    if name in batch.groups:
        _, target = grouped(torch.zeros(len(target), 1, device=target.device), target, batch.groups[name], 1)
        return kind.informs(target)
    return kind.informs(target) & (batch.labelled[name] > 0)


def task_loss(
    model: MultiTaskModel, name: str, output: Tensor, batch: Batch, count: int, marks: Tensor | None = None
) -> Tensor:
    """The mean over the task's labelled cases, or over groups of cases that share a label; over `marks` if given.

    `count` is the number of those cases.
    """
    target, labelled = batch.targets[name], batch.labelled[name]
    if name in batch.groups:
        output, target = grouped(output.float(), target, batch.groups[name], model.kinds[name].channels)
        each = case_losses(model, name, output, target)
        return each.mean() if marks is None else masked_mean(each, marks, count)
    return masked_mean(case_losses(model, name, output, target), labelled if marks is None else marks, count)


def masked_mean(each: Tensor, labelled: Tensor, count: int) -> Tensor:
    """sum(m_b * l_b) / sum(m_b) of losses [batch] and marks [batch]; `count` is the number of marks, known already."""
    return torch.where(labelled > 0, each, 0).sum() / count


def case_losses(model: MultiTaskModel, name: str, output: Tensor, target: Tensor) -> Tensor:
    """One loss for each case [batch]; an unlabelled case has one too, for its blank target."""
    return model.kinds[name].losses(output.float(), target, model.head(name))
