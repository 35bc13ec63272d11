"""Image-level tasks with classes: binary, multi-class, multi-label and ordinal."""

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
    binary_auroc,
    binary_average_precision,
    multiclass_auroc,
    multiclass_cohen_kappa,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Binary, Multiclass, Multilabel, Ordinal

YES_NO = ("0", "1")
UNCERTAIN = {"ignore": math.nan, "positive": 1.0, "negative": 0.0}


class BinaryKind(TaskKind):
    """One logit, binary cross-entropy."""

    channels = 1
    evidence_width = 2

    def __init__(self, name: str, task: Binary) -> None:
        super().__init__(name, task)
        self.positive_weight = task.positive_weight

    def label(self, cells: Sequence[Cell | None]) -> int | None:
        return None if cells[0] is None else cells[0].choice(YES_NO)

    def classes(self) -> tuple[str, ...]:
        return YES_NO

    def class_of(self, label: int) -> str:
        return YES_NO[label]

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        weight = 1 + (self.positive_weight - 1) * target
        return weight * F.binary_cross_entropy_with_logits(output[:, 0], target, reduction="none")

    def evidence(self, output: Tensor) -> Tensor:
        p = output.sigmoid()
        return torch.cat((1 - p, p), 1)

    def truth(self, target: Tensor) -> Tensor:
        return torch.stack((1 - target, target), 1)

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        scores, whole, count = answers[:, 0], truths.long(), len(truths)
        if several(whole):
            called = (scores > 0).long()
            yield "auroc", float(binary_auroc(scores, whole)), count
            yield "average_precision", float(binary_average_precision(scores, whole)), count
            yield "balanced_accuracy", balanced_accuracy(called, whole, 2), count
        for name, value in (("sensitivity", 1), ("specificity", 0)):
            among = whole == value
            if among.any():
                yield name, float(((scores > 0).long()[among] == value).double().mean()), int(among.sum())
        yield "brier", float((scores.double().sigmoid() - whole).square().mean()), count


class MulticlassKind(TaskKind):
    """One logit for each class, cross-entropy."""

    def __init__(self, name: str, task: Multiclass) -> None:
        super().__init__(name, task)
        self.names, self.smoothing = task.classes, task.label_smoothing
        self.channels = len(task.classes)

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

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        return F.cross_entropy(output, target, reduction="none", label_smoothing=self.smoothing)

    @property
    def evidence_width(self) -> int:
        return len(self.names)

    def evidence(self, output: Tensor) -> Tensor:
        return output.softmax(1)

    def truth(self, target: Tensor) -> Tensor:
        return F.one_hot(target, len(self.names)).float()

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        chosen, count, classes = answers.argmax(1), len(truths), len(self.names)
        if several(truths):
            yield "balanced_accuracy", balanced_accuracy(chosen, truths, classes), count
            yield "macro_f1", float(multiclass_f1_score(chosen, truths, classes, average="macro")), count
        if len(set(truths.tolist())) == classes:  # ranking is defined for every class
            yield "macro_auroc", float(multiclass_auroc(answers.softmax(1), truths, classes, average="macro")), count
        yield "accuracy", float((chosen == truths).double().mean()), count


class MultilabelKind(TaskKind):
    """One logit for each finding; a finding that is not stated, or uncertain under `ignore`, has no loss."""

    def __init__(self, name: str, task: Multilabel) -> None:
        super().__init__(name, task)
        self.names, self.uncertain = task.classes, UNCERTAIN[task.uncertain]
        self.stated = task.columns or task.classes
        self.channels = len(task.classes)

    def columns(self, column: str) -> tuple[str, ...]:
        return self.stated

    def label(self, cells: Sequence[Cell | None]) -> tuple[float, ...] | None:
        """1, 0 or NaN for each finding; None where nothing is stated."""
        values = tuple(math.nan if cell is None else self._finding(cell) for cell in cells)
        return None if all(math.isnan(value) for value in values) else values

    def _finding(self, cell: Cell) -> float:
        number = cell.number()
        if number not in (0, 1, -1):
            raise cell.error("1, 0, or -1 for uncertain")
        return self.uncertain if number == -1 else number

    def blank(self, image: Image) -> NDArray[np.float32]:
        return np.full(len(self.names), np.nan, np.float32)

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        known = ~target.isnan()
        each = F.binary_cross_entropy_with_logits(output, target.nan_to_num(), reduction="none")
        return torch.where(known, each, 0).sum(1) / known.sum(1).clamp(min=1)

    @property
    def evidence_width(self) -> int:
        return len(self.names)

    @property
    def unsure(self) -> float:
        return 0.5

    def evidence(self, output: Tensor) -> Tensor:
        return output.sigmoid()

    def truth(self, target: Tensor) -> Tensor:
        return target.nan_to_num(0.5)

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        areas, precisions = [], []
        for place in range(len(self.names)):
            known = ~truths[:, place].isnan()
            whole = truths[known, place].long()
            if len(whole) and several(whole):
                areas.append(float(binary_auroc(answers[known, place], whole)))
                precisions.append(float(binary_average_precision(answers[known, place], whole)))
        if areas:
            yield "macro_auroc", sum(areas) / len(areas), len(truths)
            yield "mean_precision", sum(precisions) / len(precisions), len(truths)


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
        ends = passed.new_ones(len(passed), 1)
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
    """As CORAL, but threshold k counts only for cases that passed k-1 (Shi, Cao, Raschka, arXiv 2111.08851, eq. 6)."""
    thresholds = torch.arange(output.shape[1], device=target.device)
    asked = (target[:, None] >= thresholds).float()
    each = F.binary_cross_entropy_with_logits(output, (target[:, None] > thresholds).float(), reduction="none")
    return (each * asked).sum(1) / asked.sum(1)


def _running_sums(values: Tensor) -> Tensor:
    """Sums up to each place of the last axis, as a product: torch's own has no deterministic form on a GPU."""
    return values @ torch.ones(values.shape[-1], values.shape[-1], device=values.device).triu()


def several(truths: Tensor) -> bool:
    """Whether more than one value occurs; without that, agreement and ranking are undefined."""
    return bool((truths != truths[0]).any())


def balanced_accuracy(chosen: Tensor, truths: Tensor, classes: int) -> float:
    """Mean recall over the classes that occur."""
    table = multiclass_confusion_matrix(chosen, truths, classes).double()
    cases = table.sum(1)
    return float((table.diagonal() / cases)[cases > 0].mean())
