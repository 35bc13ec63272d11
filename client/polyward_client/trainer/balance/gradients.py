"""Weights [K] from the gradients: the rules over a Gramian, and the two that remember something."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyward_client.trainer.balance.step import TINY, Kind, Rows, Step, adam
from polyward_shared.problems import Problem

LEAST_WEIGHT = 1e-3  # of GradNorm: Adam's steps could carry a weight below zero


def over_gram(rule: Callable[[NDArray[Any], Step], NDArray[np.float64]]) -> Kind:
    """A kind from a rule over a Gramian. The Gramian makes one journey to the CPU."""

    def weights(step: Step) -> Tensor:
        assert step.gram is not None  # noqa: S101 - a kind with gram=True is never asked without
        return torch.from_numpy(rule(step.gram.cpu().numpy(), step)).to(step.losses)

    return Kind(weights, gram=True, scales_branches=False)


def gradnorm(step: Step) -> Tensor:
    """Weights, learnt until w_k ||g_k|| = mean_j(w_j ||g_j||) (r_k / mean r)^alpha, r_k = L_k / L_k(0); sum w = K.

    Chen et al., arXiv 1711.02257, eq. 2 and algorithm 1, with the right side held constant.
    """
    assert step.gram is not None  # noqa: S101 - a kind with gram=True is never asked without
    lengths = step.gram.diagonal().clamp(min=0).sqrt()
    weights = len(lengths) * step.rows["weight"] / step.rows["weight"].sum()
    pace = step.losses.clamp(min=0) / step.reference.clamp(min=TINY)
    target = (weights * lengths).mean() * (pace / pace.mean().clamp(min=TINY)) ** step.config.alpha
    step.rows["weight"] = weights
    moved = adam(step.rows, "weight", (weights * lengths - target).sign() * lengths, step.config.rate)
    moved = moved.clamp(min=LEAST_WEIGHT)
    step.rows["weight"] = len(moved) * moved / moved.sum()
    return weights


def db_mtl(step: Step) -> Tensor:
    """max_j ||a_j|| / ||a_k|| for the moving averages a_k of the gradients of the log-losses: all get equal lengths.

    Lin et al., arXiv 2308.12029, algorithm 1. These weights apply to `db_mtl_averages`, not to this step's gradients.
    """
    assert step.jacobian is not None  # noqa: S101 - a kind with jacobian=True is never asked without
    logs = step.jacobian / (step.losses.clamp(min=0) + TINY)[:, None]
    old = step.rows["averages"] if step.rows["averages"].shape[1] else torch.zeros_like(logs)
    step.rows["averages"] = torch.lerp(logs, old, step.config.decay)
    step.rows["steps"] = step.rows["steps"] + 1
    lengths = db_mtl_averages(step.rows, step.config.decay).norm(dim=1)
    longest = lengths.max()
    return torch.where(lengths > 1e-12 * longest, longest / lengths, 0)


def db_mtl_averages(rows: Rows, decay: float) -> Tensor:
    """[K, P]. Divided by what an average from zero still lacks, so that the first steps are not too short."""
    return rows["averages"] / (1 - decay ** rows["steps"])[:, None]


def from_torchjd(name: str) -> Kind:
    """The kind over `torchjd.aggregation.<name>Weighting`; Problem where it is missing or cannot serve."""
    where = "balancer.kind"
    try:
        weighting = getattr(import_module("torchjd.aggregation"), f"{name}Weighting", None)
    except ImportError as error:
        remedy = "install it at this site: pip install 'torchjd>=0.18,<0.19'; or choose one of polyward's own kinds"
        raise Problem(where, f"torchjd:{name}, but torchjd is not installed", remedy=remedy) from error
    expected = "the name of a weighting over a Gramian, such as torchjd:MGDA"
    if weighting is None:
        raise Problem(where, f"torchjd has no {name}Weighting", expected=expected)
    try:
        made = weighting()
        shape = made(torch.eye(2)).shape
    except ImportError as error:
        raise Problem(where, f"torchjd:{name} needs more than torchjd", remedy=str(error)) from error
    except (TypeError, ValueError) as error:
        raise Problem(where, f"torchjd:{name} cannot be used without arguments", expected=expected) from error
    if shape != (2,) or hasattr(made, "reset"):
        raise Problem(where, f"torchjd:{name} has a memory of its own, which no vault keeps", expected=expected)

    def rule(gram: NDArray[Any], step: Step) -> NDArray[np.float64]:
        with torch.random.fork_rng(devices=[]):  # some draw an order from torch's own generator
            torch.manual_seed(int(step.generator.integers(2**63)))
            found: NDArray[np.float64] = made(torch.from_numpy(gram)).double().numpy()
        return found if np.isfinite(found).all() else np.full(len(found), 1 / len(found))

    return over_gram(rule)
