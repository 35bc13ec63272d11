"""The first state of a module, drawn by numpy: torch's draws differ in the last bit between processors, and sites
compare digests."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

WEIGHTED = (nn.Linear, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.GroupNorm, nn.LayerNorm, _BatchNorm)
SPREAD = 0.02  # standard deviation of tables such as position embeddings, as Swin has it (arXiv 2103.14030)
STEPS = 1 << 16  # of the uniform draws whose sum stands for a normal one


def initialise(module: nn.Module, seed: int, *, raw: bool = False) -> None:
    """Kaiming-uniform weights (He et al., arXiv 1502.01852), zero biases, plain norms, in the order of the module tree.

    With `raw`, parameters that stand outside these layers (position embeddings, tables of relative positions, a class
    token) are drawn too, near 0; those that hold one value throughout keep it, for nothing about them is random.
    Without it they all keep the values that their class gave them, as the thresholds of an ordinal head must.
    """
    generator = np.random.default_rng(seed)
    for layer in module.modules():
        if isinstance(layer, WEIGHTED):
            _draw(layer.weight, layer.weight[0].numel(), generator)
            _fill(layer.bias, 0)
        elif isinstance(layer, TRANSPOSED):
            inputs = layer.weight[:, 0].numel() / layer.groups / math.prod(layer.stride)  # that meet in one output
            _draw(layer.weight, inputs, generator)
            _fill(layer.bias, 0)
        elif isinstance(layer, NORMS):
            _fill(layer.weight, 1)
            _fill(layer.bias, 0)
            if isinstance(layer, _BatchNorm):
                layer.reset_running_stats()
        elif raw:
            for parameter in layer.parameters(recurse=False):
                if bool((parameter != parameter.flatten()[:1]).any()):
                    _scatter(parameter, generator)


@torch.no_grad()
def _draw(weight: Tensor, inputs: float, generator: np.random.Generator) -> None:
    """Uniform within +-sqrt(6 / inputs)."""
    bound = np.float32(math.sqrt(6 / inputs))
    drawn = generator.random(tuple(weight.shape), np.float32)
    weight.copy_(torch.from_numpy((2 * drawn - 1) * bound))


@torch.no_grad()
def _scatter(table: Tensor, generator: np.random.Generator) -> None:
    """Nearly normal and never beyond 3.5 standard deviations: the sum of four uniform draws.

    Whole numbers are summed, so that no order of additions and no library's logarithm changes a bit.
    """
    total = generator.integers(0, STEPS, (4, *table.shape)).sum(0)
    table.copy_(torch.from_numpy((total / STEPS - 2) * (math.sqrt(3) * SPREAD)))


@torch.no_grad()
def _fill(values: Tensor | None, value: float) -> None:
    if values is not None:
        values.fill_(value)
