"""What every epoch found, kept at the site: losses, how tasks pull on the encoder, how the balancer weighed them."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from polyward_client.trainer.step import Stepped


@dataclass(frozen=True, slots=True)
class Epoch:
    """Means over one epoch's steps; a task counts in the steps where it has labels, a pair where both have."""

    round: int
    phase: str
    epoch: int
    losses: dict[str, float]
    ratios: dict[str, float]  # loss by the task's first loss ever, so that kinds can be compared
    weights: dict[str, float]
    norms: dict[str, float] = field(default_factory=dict)  # of the task's gradient at the pyramid
    cosines: dict[str, float] = field(default_factory=dict)  # "a b": between two tasks' gradients; below 0 is conflict

    @property
    def mean_loss(self) -> float:
        return sum(self.losses.values()) / max(len(self.losses), 1)


class Tally:
    """Sums on the device, so that a step never waits for it."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], Tensor] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, stepped: Stepped) -> None:
        found = stepped.backward
        for task, loss in stepped.losses.items():
            self._add(("losses", task), loss)
        for task, weight in found.weights.items():
            self._add(("weights", task), weight)
        for task, norm in found.norms.items():
            self._add(("norms", task), norm)
        if found.norms:
            for row, first in enumerate(found.tasks):
                for column in range(row):
                    self._add(("cosines", f"{found.tasks[column]} {first}"), found.cosines[row, column])

    def _add(self, key: tuple[str, str], value: Tensor) -> None:
        value = value.detach()
        self.sums[key] = self.sums[key] + value if key in self.sums else value
        self.counts[key] += 1

    def epoch(self, round: int, phase: str, number: int, reference: dict[str, float]) -> Epoch:
        """The means; `reference` is each task's first loss ever."""
        keys = list(self.sums)
        totals = torch.stack([self.sums[key].float() for key in keys]).tolist() if keys else []
        means: dict[str, dict[str, float]] = {"losses": {}, "weights": {}, "norms": {}, "cosines": {}}
        for (table, name), total in zip(keys, totals, strict=True):
            means[table][name] = total / self.counts[table, name]
        ratios = {
            task: loss / reference[task]
            for task, loss in means["losses"].items()
            if reference.get(task) and math.isfinite(reference[task])
        }
        return Epoch(round, phase, number, ratios=ratios, **means)


def write_epoch(path: Path, epoch: Epoch) -> None:
    """Adds one line to a study's journal, on a line of its own also after one that a power failure cut off."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "a+b", opener=partial(os.open, mode=0o600)) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        torn = file.read() not in {b"", b"\n"}
        file.write((b"\n" if torn else b"") + json.dumps(asdict(epoch)).encode() + b"\n")


def read_epochs(path: Path) -> list[Epoch]:
    """All epochs, the last attempt of each; a line that was cut off by a power failure is left out."""
    found: dict[tuple[int, str, int], Epoch] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            epoch = Epoch(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[epoch.round, epoch.phase, epoch.epoch] = epoch
    return list(found.values())
