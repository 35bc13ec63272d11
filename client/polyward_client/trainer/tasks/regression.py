"""A number for each image, such as an age or a volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.regression import concordance_corrcoef, r2_score

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.tasks.classes import several
from polyward_client.trainer.tasks.kind import Figure, TaskKind


class RegressionKind(TaskKind):
    """Smooth L1 on the standardised label; the figures are in the label's own unit."""

    channels = 1
    evidence_width = 1
    unsure = 0.0

    def label(self, cells: Sequence[Cell | None]) -> float | None:
        return None if cells[0] is None else cells[0].number()

    def head(self, features: int) -> nn.Module:
        return Standardised(features)

    def fit(self, head: nn.Module, targets: Tensor) -> None:
        values = targets.double()
        spread = float(values.std(correction=0)) if len(values) else 0.0
        mean = float(values.mean()) if len(values) else 0.0
        head.get_buffer("target").copy_(torch.tensor([mean, spread or 1.0]))

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        mean, spread = head.get_buffer("target")
        return F.smooth_l1_loss(output[:, 0], (target - mean) / spread, reduction="none")

    def evidence(self, output: Tensor) -> Tensor:
        return output

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        mean, spread = head.get_buffer("target").cpu()
        values, count = (answers[:, 0] * spread + mean).double(), len(truths)
        away = values - truths
        yield "mae", float(away.abs().mean()), count
        yield "rmse", float(away.square().mean().sqrt()), count
        if several(truths):
            yield "r2", float(r2_score(values, truths.double())), count
            yield "concordance", float(concordance_corrcoef(values, truths.double())), count


class Standardised(nn.Linear):
    """A linear layer whose output is in units of the labels' spread, from their mean. Both are buffers of the site."""

    def __init__(self, features: int) -> None:
        super().__init__(features, 1)
        self.register_buffer("target", torch.tensor([0.0, 1.0]))  # mean and spread of the training labels
