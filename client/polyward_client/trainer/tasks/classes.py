"""Image-level tasks with classes: binary, multi-class and multi-label."""

from __future__ import annotations

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
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Binary, Multiclass, Multilabel

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
            places = ranks(scores)
            yield "auroc", float(binary_auroc(places, whole)), count
            yield "average_precision", float(binary_average_precision(places, whole)), count
            yield "balanced_accuracy", balanced_accuracy(called, whole, 2), count
        for name, value in (("sensitivity", 1), ("specificity", 0)):
            among = whole == value
            if among.any():
                yield name, float(((scores > 0).long()[among] == value).double().mean()), int(among.sum())
        yield "brier", float((scores.double().sigmoid() - whole).square().mean()), count

    def smallest(self, truths: Tensor) -> int:
        """Cases of the rarer class, of which sensitivity or specificity speaks; 0 if one is missing."""
        positive = int((truths > 0).sum())
        return min(positive, len(truths) - positive)


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
            chances = answers.double().softmax(1)  # in single precision sure answers are ties
            yield "macro_auroc", float(multiclass_auroc(chances, truths, classes, average="macro")), count
        yield "accuracy", float((chosen == truths).double().mean()), count


class MultilabelKind(TaskKind):
    """One logit for each finding; a finding that is not stated, or uncertain under `ignore`, has no loss."""

    may_be_void = True

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

    def informs(self, target: Tensor) -> Tensor:
        return ~target.isnan().all(1)

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
        """Means over the findings that can be ranked; counted are the judged cases of the one that has fewest."""
        areas, precisions = [], []
        for place, known in self._ranked(truths):
            whole, places = truths[known, place].long(), ranks(answers[known, place])
            areas.append(float(binary_auroc(places, whole)))
            precisions.append(float(binary_average_precision(places, whole)))
        if areas:
            count = self.smallest(truths)
            yield "macro_auroc", sum(areas) / len(areas), count
            yield "mean_precision", sum(precisions) / len(precisions), count

    def smallest(self, truths: Tensor) -> int:
        """The least number of judged cases of a finding that enters a figure; 0 if none does."""
        return min((int(known.sum()) for _, known in self._ranked(truths)), default=0)

    def _ranked(self, truths: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The findings of which both values occur, each with its judged cases [n] bool."""
        for place in range(len(self.names)):
            known = ~truths[:, place].isnan()
            if known.any() and several(truths[known, place]):
                yield place, known


def several(truths: Tensor) -> bool:
    """Whether more than one value occurs; without that, agreement and ranking are undefined."""
    return bool((truths != truths[0]).any())


def ranks(scores: Tensor) -> Tensor:
    """Scores [n] -> numbers from 0 to 1 in the same order, equal where they are equal.

    Torchmetrics would put logits through a sigmoid in single precision, where all above 17 are the same.
    """
    places: Tensor = torch.unique(scores, return_inverse=True)[1].double()
    return places / places.max().clamp(min=1)


def balanced_accuracy(chosen: Tensor, truths: Tensor, classes: int) -> float:
    """Mean recall over the classes that occur."""
    table = multiclass_confusion_matrix(chosen, truths, classes).double()
    cases = table.sum(1)
    return float((table.diagonal() / cases)[cases > 0].mean())
