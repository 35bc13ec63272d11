"""Units by which the branches of several tasks exchange features at one stage: h by task -> h' by task.

Features are [batch, C, *spatial], C equal for all tasks at a stage. A unit works with any subset of its tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

OWN, OTHERS = 0.9, 0.1  # how much a task first takes of itself, and of all others together
SMALLEST_SHARE = 1e-3  # of a row's sum; below it, dividing would blow features up

Features = dict[str, Tensor]


class CrossStitch(nn.Module):
    """h'_t = sum_s a_ts h_s (Misra et al., arXiv 1604.03539, eq. 1). Where tasks are absent, the weights of a row that
    are left are scaled to the sum that the whole row had."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.mixing = nn.Parameter(_diagonal(len(tasks)))

    def forward(self, h: Features) -> Features:
        here = [place for place, task in enumerate(self.tasks) if task in h]
        rows = self.mixing[here]
        kept = rows[:, here]
        left, whole = kept.sum(1, keepdim=True), rows.sum(1, keepdim=True)
        safe = left.abs() > SMALLEST_SHARE
        kept = torch.where(safe, kept * whole / torch.where(safe, left, 1), kept)
        names = [self.tasks[place] for place in here]
        return {
            task: sum(kept[row, column] * h[source] for column, source in enumerate(names))  # type: ignore[misc]
            for row, task in enumerate(names)
        }


class NDDR(nn.Module):
    """h'_t = Conv1x1_t(cat_s h_s) (Gao et al., arXiv 1801.08297, eq. 3), first the same mixture as cross-stitch; an
    absent task's features count as zero."""

    def __init__(self, tasks: Sequence[str], channels: int) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        mixing = _diagonal(len(tasks))
        self.weight = nn.Parameter(torch.kron(mixing, torch.eye(channels)))  # [K C, K C]

    def forward(self, h: Features) -> Features:
        example = next(iter(h.values()))
        stacked = torch.cat([h.get(task, torch.zeros_like(example)) for task in self.tasks], 1)
        mixed = torch.einsum("oc,bc...->bo...", self.weight, stacked)
        pieces = mixed.chunk(len(self.tasks), 1)
        return {task: piece for task, piece in zip(self.tasks, pieces, strict=True) if task in h}


class Distillation(nn.Module):
    """h'_t = h_t + sum_(s != t) sigmoid(G_st h_s) * V_st h_s: message passing steered by attention (PAD-Net, Xu et al.,
    arXiv 1805.04409, eq. 3; at every stage as in MTI-Net, arXiv 2001.06902)."""

    def __init__(self, tasks: Sequence[str], channels: int, convolution: type[nn.Conv2d] | type[nn.Conv3d]) -> None:
        super().__init__()
        self.pairs = {(s, t): f"{s}_to_{t}" for s in tasks for t in tasks if s != t}
        self.gates = nn.ModuleDict({name: convolution(channels, channels, 1) for name in self.pairs.values()})
        self.values = nn.ModuleDict({name: convolution(channels, channels, 1) for name in self.pairs.values()})

    def forward(self, h: Features) -> Features:
        out = dict(h)
        for (source, target), name in self.pairs.items():
            if source in h and target in h:
                out[target] = out[target] + torch.sigmoid(self.gates[name](h[source])) * self.values[name](h[source])
        return out


def _diagonal(count: int) -> Tensor:
    """0.9 on the diagonal, 0.1 shared by the rest of each row [count, count]; 1 for one task."""
    if count == 1:
        return torch.ones(1, 1)
    mixing = torch.full((count, count), OTHERS / (count - 1))
    return mixing.fill_diagonal_(OWN)
