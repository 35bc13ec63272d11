"""How sure a site is of each value of the encoder, for precision-weighted means (`aggregation.rule = "precision"`).

The moving mean of squared gradients, F <- 0.9 F + 0.1 g^2 from 0, stands for the diagonal of the Fisher matrix in
Laplace's approximation of a posterior. Only its proportions leave: across different tasks, the size of a loss says
nothing about how sure a site is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

DECAY = 0.9


@dataclass(frozen=True, slots=True)
class Squares:
    """Of the gradients of these parameters, by name, over the steps of one round."""

    parameters: Mapping[str, nn.Parameter]
    means: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def add(self) -> None:
        """One step's `.grad`. A step with a value that is not finite, which no optimiser may take, leaves no trace."""
        found = {name: _squared(parameter) for name, parameter in self.parameters.items()}
        sound = torch.stack([square.isfinite().all() for square in found.values()]).all()
        for name, square in found.items():
            before = self.means.get(name, torch.zeros_like(square))
            self.means[name] = torch.where(sound, DECAY * before + (1 - DECAY) * square, before)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """By the parameters' names, divided by the mean over all values; all ones where no gradient was."""
        found = {name: mean.cpu().double().numpy() for name, mean in self.means.items()}
        total, size = sum(float(value.sum()) for value in found.values()), sum(value.size for value in found.values())
        if not total:
            return {name: np.ones(tuple(each.shape), np.float32) for name, each in self.parameters.items()}
        return {name: (value * (size / total)).astype(np.float32) for name, value in found.items()}


def _squared(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    return torch.zeros_like(parameter) if gradient is None else gradient.float().square()
