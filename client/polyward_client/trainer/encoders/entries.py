"""What each entry of an encoder's state is, told from the type of the module that holds it, never from its name.

A ResNet's shortcut norm is called `downsample.1`, and averaging its running variance like a weight, or its counter like
a number, has spoilt more than one federation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
STATISTICS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the state: what it is, and whether a batch norm holds it."""

    kind: Literal["weight", "affine", "statistic", "counter"]
    batch: bool = False


def entries_of(encoder: nn.Module) -> dict[str, Entry]:
    """Every entry of the state dict, in its order. A buffer that no batch norm holds is refused elsewhere."""
    kinds: dict[str, Entry] = {}
    for path, module in encoder.named_modules():
        batch, prefix = isinstance(module, _BatchNorm), f"{path}." if path else ""
        for name, _ in module.named_parameters(recurse=False):
            kinds[prefix + name] = Entry("affine" if isinstance(module, NORMS) else "weight", batch)
        if batch:
            kinds |= {prefix + name: Entry("statistic", batch) for name in STATISTICS}
            kinds[prefix + COUNTER] = Entry("counter", batch)
    return {name: kinds[name] for name in encoder.state_dict()}


def batch_norms(encoder: nn.Module) -> dict[str, _BatchNorm]:
    """Those with running statistics, by path."""
    return {
        path: module
        for path, module in encoder.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def moments_of(encoder: nn.Module) -> dict[str, Tensor]:
    """By `<path>.mean` and `<path>.square`: the first two raw moments that each batch norm has seen, float32.

    Their weighted means over sites are those of all that the sites have seen together, so that the variance which
    `load_moments` takes from them is v = sum w_i v_i + sum w_i (m_i - m)^2, for any weights that sum to 1.
    """
    found: dict[str, Tensor] = {}
    for path, (mean, variance) in _statistics(encoder).items():
        found[_joined(path, "mean")] = mean.clone()
        found[_joined(path, "square")] = (variance.double() + mean.double().square()).float()
    return found


@torch.no_grad()
def load_moments(encoder: nn.Module, moments: dict[str, Tensor]) -> None:
    """Running means and variances from raw moments; what rounding, or a rule of the hub, left below 0 becomes 0."""
    for path, (mean, variance) in _statistics(encoder).items():
        first, square = moments[_joined(path, "mean")].double(), moments[_joined(path, "square")].double()
        mean.copy_(first)
        variance.copy_((square - first.square()).clamp(min=0))


@contextmanager
def kept_statistics(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Lets batch norms see images once more without counting them twice."""
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def _statistics(encoder: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        path: (norm.get_buffer("running_mean"), norm.get_buffer("running_var"))
        for path, norm in batch_norms(encoder).items()
    }


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
