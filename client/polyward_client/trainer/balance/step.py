"""What a balancer is made of, and what it sees of one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from polyward_shared.training import Balancer as Config

TINY = 1e-8  # added to losses before a logarithm or a division

Rows = dict[str, Tensor]  # a balancer's memory: for each name one row per task


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the present tasks: K of them, always in the same order. Nothing carries a graph."""

    losses: Tensor  # [K]
    reference: Tensor  # [K], each task's first loss ever
    task_weights: Tensor  # [K], from the study
    rows: Rows  # [K] or [K, P]; a rule puts new rows in the place of old ones
    config: Config
    generator: np.random.Generator
    gram: Tensor | None = None  # [K, K], inner products of the gradients of the losses
    jacobian: Tensor | None = None  # [K, P], the gradients themselves


@dataclass(frozen=True, slots=True)
class Kind:
    """A balancer: a rule from step to weights [K], and what it needs and remembers."""

    rule: Callable[[Step], Tensor]
    gram: bool = False  # the rule reads the Gramian
    jacobian: bool = False  # the rule reads the gradients themselves
    scales_branches: bool = True  # False: a rule about shared parameters; each branch follows its own loss
    rows: Mapping[str, float] = field(default_factory=dict)  # one number per task, with its first value
    wide: tuple[str, ...] = ()  # rows as long as a gradient
    after: Callable[[Rows, Tensor, Config], None] | None = None  # sees the losses [K] once more after the step
    epoch: Callable[[Rows], None] | None = None  # sees the rows of all tasks at the end of an epoch


def learnt(name: str, start: float) -> dict[str, float]:
    """Rows of a number that `adam` moves."""
    return {name: start, f"{name}_mean": 0.0, f"{name}_square": 0.0, f"{name}_steps": 0.0}


def adam(rows: Rows, name: str, slope: Tensor, rate: float) -> Tensor:
    """One step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) against a slope [K]; returns the new numbers.

    Every task counts its own steps, so a task that was away goes on where it stopped.
    """
    rows[f"{name}_steps"] = steps = rows[f"{name}_steps"] + 1
    rows[f"{name}_mean"] = mean = torch.lerp(slope, rows[f"{name}_mean"], 0.9)
    rows[f"{name}_square"] = square = torch.lerp(slope**2, rows[f"{name}_square"], 0.999)
    spread = (square / (1 - 0.999**steps)).sqrt() + 1e-8
    rows[name] = rows[name] - rate * mean / (1 - 0.9**steps) / spread
    return rows[name]
