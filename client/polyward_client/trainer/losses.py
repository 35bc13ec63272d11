"""Outputs and targets -> one loss per task, over the labelled cases alone.

A task without a label in the batch has no entry: an entry of zero would slow or stop every balancer.
"""

from __future__ import annotations

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from polyward_client.trainer.dataset import Batch
from polyward_client.trainer.model import MultiTaskModel
from polyward_shared.study import Study
from polyward_shared.tasks import Binary, Multiclass, Ordinal, Regression, Segmentation, Task

SMOOTH = {"smooth": 1.0, "skip": 1e-5, "keep": 1e-5}  # 1 lets a correct empty mask reach loss 0; 1e-5 is MONAI's


def task_losses(model: MultiTaskModel, outputs: dict[str, Tensor], batch: Batch, study: Study) -> dict[str, Tensor]:
    """A scalar for each task that has a label in the batch."""
    losses: dict[str, Tensor] = {}
    for name, count in batch.counts.items():
        each = case_losses(model, name, outputs[name], batch.targets[name], study)
        losses[name] = masked_mean(each, batch.labelled[name], count)
    return losses


def masked_mean(each: Tensor, labelled: Tensor, count: int) -> Tensor:
    """sum(m_b * l_b) / sum(m_b) of losses [batch] and marks [batch]; `count` is the number of marks, known already."""
    return torch.where(labelled > 0, each, 0).sum() / count


def case_losses(model: MultiTaskModel, name: str, output: Tensor, target: Tensor, study: Study) -> Tensor:
    """One loss for each case [batch]; an unlabelled case has one too, for its placeholder target."""
    task, output = study.tasks[name], output.float()
    if isinstance(task, Regression):
        mean, spread = model.scale(name)
        return F.smooth_l1_loss(output[:, 0], (target - mean) / spread, reduction="none")
    return _classification(task, output, target, study.training.empty_mask)


def _classification(task: Task, output: Tensor, target: Tensor, empty_mask: str) -> Tensor:
    match task:
        case Binary():
            return F.binary_cross_entropy_with_logits(output[:, 0], target, reduction="none")
        case Multiclass():
            return F.cross_entropy(output, target, reduction="none")
        case Ordinal():
            return coral(output, target)
        case Segmentation():
            return dice_and_cross_entropy(output, target, empty_mask)
    raise ValueError(f"no loss for the kind {task.kind!r}")


def coral(output: Tensor, target: Tensor) -> Tensor:
    """Mean over thresholds of the binary cross-entropy of y > k (arXiv 1901.07884, eq. 4). Logits [batch, C-1]."""
    levels = (target[:, None] > torch.arange(output.shape[1], device=target.device)).float()
    return F.binary_cross_entropy_with_logits(output, levels, reduction="none").mean(1)


def dice_and_cross_entropy(output: Tensor, target: Tensor, empty_mask: str) -> Tensor:
    """Soft Dice over foreground classes plus cross-entropy per case. Logits [batch, C, *spatial], labels [batch, *].

    With its usual smoothing, Dice on an empty mask is near 1 even for a correct empty answer. `smooth` uses a smoothing
    of 1, `skip` leaves classes without foreground out of the mean, `keep` keeps MONAI's behaviour. The cross-entropy is
    written with the one-hot mask that Dice needs anyway; torch's own has no deterministic form for masks on a GPU.
    """
    logs = F.log_softmax(output, 1)
    classes = torch.arange(output.shape[1], device=output.device).reshape(1, -1, *[1] * (output.ndim - 2))
    onehot = (target[:, None] == classes).float()
    entropy = -(onehot * logs).sum(1).flatten(1).mean(1)
    smooth = SMOOTH[empty_mask]
    dice = DiceLoss(include_background=False, reduction="none", smooth_nr=smooth, smooth_dr=smooth)
    each: Tensor = dice(logs.exp(), onehot).flatten(1)  # [batch, foreground classes]
    if empty_mask != "skip":
        return each.mean(1) + entropy
    full = onehot[:, 1:].flatten(2).amax(2)
    return (each * full).sum(1) / full.sum(1).clamp(min=1) + entropy
