"""Weights [K] from the losses alone. Learnt numbers move by the closed form of their gradient, never by autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from polyward_client.trainer.affine import on
from polyward_client.trainer.balance.step import TINY, Rows, Step, adam
from polyward_shared.training import Balancer as Config

BOUND = 10.0  # of a learnt logarithm: a loss that stays at zero would move it for ever
FAMO_DECAY = 1e-2  # of FAMO's logits: the default of its authors' code


def equal(step: Step) -> Tensor:
    """1/K."""
    return torch.full_like(step.losses, 1 / len(step.losses))


def fixed(step: Step) -> Tensor:
    """The study's task weights, over K."""
    return step.task_weights / len(step.losses)


def uncertainty(step: Step) -> Tensor:
    """exp(-s) / 2 with s = log variance, learnt on sum exp(-s) L / 2 + s / 2 (Kendall et al., arXiv 1705.07115, eq. 7).

    The paper halves the first term for regression alone; one form for all tasks is the usual simplification.
    """
    weights = torch.exp(-step.rows["log_variance"]) / 2
    _move(step, "log_variance", 0.5 - weights * step.losses)
    return weights


def imtl_l(step: Step) -> Tensor:
    """exp(s), learnt on sum exp(s) L - s (Liu et al., "Towards impartial multi-task learning", ICLR 2021, 3.2)."""
    weights = torch.exp(step.rows["log_scale"])
    _move(step, "log_scale", weights * step.losses - 1)
    return weights


def gls(step: Step) -> Tensor:
    """The gradient of the geometric mean of the losses: mean / (K L) (Chennupati et al., arXiv 1904.08492)."""
    losses = step.losses.clamp(min=0) + TINY
    return losses.log().mean().exp() / (len(losses) * losses)


def rlw(step: Step) -> Tensor:
    """Softmax of normal numbers, new in every step (Lin et al., arXiv 2111.10603, algorithm 2)."""
    normal = torch.from_numpy(step.generator.standard_normal(len(step.losses), dtype="float32"))
    return on(normal.softmax(0).numpy(), step.losses.device)


def dwa(step: Step) -> Tensor:
    """K softmax(r / T) with r the last epoch's mean loss over the one before (Liu et al., arXiv 1803.10704, eq. 7).

    A task without two epochs counts as one that stands still, r = 1.
    """
    rows = step.rows
    rows["sum"] = rows["sum"] + step.losses
    rows["count"] = rows["count"] + 1
    ratio = (rows["last"] + TINY) / (rows["before_last"] + TINY)
    ratio = torch.where(ratio.isnan(), 1, ratio)
    return len(ratio) * (ratio / step.config.temperature).softmax(0)


def dwa_epoch(rows: Rows) -> None:
    """The means of the epoch that ends; a task without a loss in it keeps its own."""
    seen = rows["count"] > 0
    rows["before_last"] = torch.where(seen, rows["last"], rows["before_last"])
    rows["last"] = torch.where(seen, rows["sum"] / rows["count"], rows["last"])
    rows["sum"] = torch.zeros_like(rows["sum"])
    rows["count"] = torch.zeros_like(rows["count"])


def famo(step: Step) -> Tensor:
    """c z / L with z = softmax(logits) and sum w = 1 (Liu et al., arXiv 2306.03792, algorithm 1)."""
    step.rows["before"] = step.losses
    weights = step.rows["logits"].softmax(0) / (step.losses.clamp(min=0) + TINY)
    return weights / weights.sum()


def famo_after(rows: Rows, losses: Tensor, config: Config) -> None:
    """The logits move against what the step gained in log-loss (arXiv 2306.03792, algorithm 1)."""
    before, logits = rows["before"], rows["logits"]
    gained = (before.clamp(min=0) + TINY).log() - (losses.clamp(min=0) + TINY).log()
    gained = torch.where(gained.isnan(), 0, gained)  # no look before the step
    shares = logits.softmax(0)
    slope = shares * (gained - (shares * gained).sum())
    adam(rows, "logits", slope + FAMO_DECAY * logits, config.rate)


def _move(step: Step, name: str, slope: Tensor) -> None:
    step.rows[name] = adam(step.rows, name, slope, step.config.rate).clamp(-BOUND, BOUND)
