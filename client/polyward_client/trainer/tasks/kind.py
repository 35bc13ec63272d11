"""What the trainer knows about one kind of task: from the manifest's cell to the figures.

A kind is a set of pure functions over one task's definition. Image-level kinds answer with [batch, channels], maps
with [batch, channels, *spatial]; targets are whatever shape `target` gives, stacked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.images import Picture
from polyward_shared.study import Image
from polyward_shared.tasks import Level, Task

Figure = tuple[str, float, int]  # name, value, cases
Moves = Literal["not", "labels", "image", "points", "boxes"]  # how a target follows its image under augmentation
Target = NDArray[Any]


class TaskKind(ABC):
    """One task as the trainer sees it. A subclass sets the attributes and answers the questions below."""

    channels: int  # of the head
    moves: Moves = "not"
    fill = 0  # of a target where a turned image leaves its frame
    needs_label = True  # False: every image is its own label
    may_be_void = False  # True: a labelled case can teach nothing, so `informs` is asked; a GPU is waited for then

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self.level: Level = task.level

    def columns(self, column: str) -> tuple[str, ...]:
        """The manifest's columns, given the one that the site or the study names."""
        return (column,)

    @abstractmethod
    def label(self, cells: Sequence[Cell | None]) -> Any:
        """What the row's cells say, in the order of `columns`; None for an empty one. Raises `CellError`."""

    def target(self, label: Any, picture: Picture, image: Image) -> Target:
        """The label as an array of fixed shape, in the study's form. Raises `Problem`."""
        return np.asarray(label, np.float32)

    def blank(self, image: Image) -> Target:
        """The target of a case without a label."""
        return np.zeros((), np.float32)

    def classes(self) -> tuple[str, ...]:
        """Names by which labels are counted; none where there is nothing to count."""
        return ()

    def class_of(self, label: Any) -> str | None:
        """The name under which this label is counted."""
        return None

    def head(self, features: int) -> nn.Module:
        """The last layer of an image-level branch, [batch, features] -> [batch, channels]."""
        return nn.Linear(features, self.channels)

    def fit(self, head: nn.Module, targets: Tensor) -> None:  # noqa: B027  # most heads have no buffers
        """Sets an image-level head's buffers, which stay at the site, from the training cases' targets [n, ...]."""

    @abstractmethod
    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        """One loss for each case [batch], 0 or more: balancers take logarithms and ratios of them."""

    def informs(self, target: Tensor) -> Tensor:
        """Which labelled cases can teach anything [batch] bool: the loss of the others is 0 whatever the output is."""
        return torch.ones(len(target), dtype=torch.bool, device=target.device)

    # What a cascade passes on

    @property
    @abstractmethod
    def evidence_width(self) -> int:
        """Channels of `evidence`."""

    @property
    def unsure(self) -> float:
        """The value of every channel where nothing is known: equal probability."""
        return 1 / self.evidence_width

    @abstractmethod
    def evidence(self, output: Tensor) -> Tensor:
        """The output as probabilities, or as what comes nearest: [batch, evidence_width, ...]."""

    def truth(self, target: Tensor) -> Tensor | None:
        """The target in the form of `evidence`, for teacher forcing; None where there is no such form."""
        return None

    # Measuring

    def answers(self, output: Tensor, target: Tensor) -> Tensor:
        """What is kept of a map for its figures: numbers for each case [batch, k]. Image-level ones are kept whole."""
        return output

    @abstractmethod
    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        """Figures from all labelled cases of a split, on the CPU; an undefined figure is left out or NaN."""

    def smallest(self, truths: Tensor) -> int:
        """Cases in the smallest group of which the figures of these truths [n, ...] could reveal something together.

        Where it is small, a figure may tell the answers of single patients, so that all of them had better stay home.
        """
        return len(truths)


Kinds = Mapping[str, TaskKind]
