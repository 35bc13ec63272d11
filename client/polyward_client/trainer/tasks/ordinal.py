"""Classes in an order: one answer for each threshold between two of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_cohen_kappa,
)

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.classes import several
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Ordinal


class OrdinalKind(TaskKind):
    """Classes in an order, by the logits of passing each threshold."""

    def __init__(self, name: str, task: Ordinal) -> None:
        super().__init__(name, task)
        self.names, self.corn = task.classes, task.loss == "corn"
        self.channels = len(task.classes) - 1

    def label(self, cells: Sequence[Cell | None]) -> int | None:
        return None if cells[0] is None else cells[0].choice(self.names)

    def target(self, label: int, picture: Picture, image: Image) -> NDArray[np.int64]:
        return np.asarray(label, np.int64)

    def blank(self, image: Image) -> NDArray[np.int64]:
        return np.zeros((), np.int64)

    def classes(self) -> tuple[str, ...]:
        return self.names

    def class_of(self, label: int) -> str:
        return self.names[label]

    def head(self, features: int) -> nn.Module:
        return nn.Linear(features, self.channels) if self.corn else Ordered(features, self.channels)

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        return corn(output, target) if self.corn else coral(output, target)

    def passed(self, output: Tensor) -> Tensor:
        """P(y > k) [batch, thresholds]; CORN's outputs are conditional on the threshold before."""
        return _running_sums(F.logsigmoid(output)).exp() if self.corn else output.sigmoid()

    @property
    def evidence_width(self) -> int:
        return len(self.names)

    def evidence(self, output: Tensor) -> Tensor:
        passed = self.passed(output)
        ends = torch.ones_like(passed[:, :1])
        return torch.cat((ends, passed), 1) - torch.cat((passed, 0 * ends), 1)

    def truth(self, target: Tensor) -> Tensor:
        return F.one_hot(target, len(self.names)).float()

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        chosen, count = (self.passed(answers) > 0.5).sum(1), len(truths)
        away = (chosen - truths).abs()
        if several(truths):
            kappa = multiclass_cohen_kappa(chosen, truths, len(self.names), weights="quadratic")
            yield "kappa", float(kappa), count
        yield "mae", float(away.double().mean()), count
        yield "one_off", float((away <= 1).double().mean()), count


class Ordered(nn.Module):
    """CORAL (Cao, Mirjalili, Raschka, arXiv 1901.07884, eq. 3): one weight vector, one bias for each threshold.

    P(y > k) = sigmoid(w.x + b_k). The biases fall by construction, b_k = b_0 - sum softplus(gap), so probabilities
    are monotone at every step of training. The first biases alone make every class equally likely.
    """

    def __init__(self, features: int, thresholds: int) -> None:
        super().__init__()
        first = [math.log((thresholds - k) / (k + 1)) for k in range(thresholds)]
        self.weight = nn.Linear(features, 1, bias=False)
        self.top = nn.Parameter(torch.tensor([first[0]]))
        gaps = [math.log(math.expm1(high - low)) for high, low in itertools.pairwise(first)]
        self.gaps = nn.Parameter(torch.tensor(gaps)) if gaps else None

    def forward(self, x: Tensor) -> Tensor:
        """[batch, features] -> logits of y > 0, y > 1, ... [batch, thresholds]."""
        score: Tensor = self.weight(x)
        if self.gaps is None:
            return score + self.top
        steps = torch.cat((self.top.new_zeros(1), F.softplus(self.gaps)))
        return score + (self.top - _running_sums(steps))


def coral(output: Tensor, target: Tensor) -> Tensor:
    """Mean over thresholds of the binary cross-entropy of y > k (arXiv 1901.07884, eq. 4). Logits [batch, C-1]."""
    levels = (target[:, None] > torch.arange(output.shape[1], device=target.device)).float()
    return F.binary_cross_entropy_with_logits(output, levels, reduction="none").mean(1)


def corn(output: Tensor, target: Tensor) -> Tensor:
    """As CORAL, but threshold k counts only for cases that passed k-1 (Shi, Cao, Raschka, arXiv 2111.08851, eq. 6).

    Equation 6 up to a constant: every case is divided by the number of thresholds. Were it divided by the number of
    those it is asked, cases that fail early would weigh more, and the chances would come out too low.
    """
    thresholds = torch.arange(output.shape[1], device=target.device)
    asked = (target[:, None] >= thresholds).float()
    each = F.binary_cross_entropy_with_logits(output, (target[:, None] > thresholds).float(), reduction="none")
    return (each * asked).sum(1) / output.shape[1]


def _running_sums(values: Tensor) -> Tensor:
    """Sums up to each place of the last axis, as a product: torch's own has no deterministic form on a GPU."""
    return values @ torch.ones(values.shape[-1], values.shape[-1], device=values.device).triu()
