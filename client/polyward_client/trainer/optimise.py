"""The study's optimiser for the parameters of one part."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from polyward_client.trainer.acqn_like import AdaptiveCubicQuasiNewton
from polyward_shared.training import Training


def build_optimiser(parameters: Iterable[Tensor], rate: float, training: Training) -> torch.optim.Optimizer:
    """A fresh optimiser, without memory of earlier phases or rounds."""
    match training.optimiser:
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=training.weight_decay, fused=True)
        case "sgd":
            return torch.optim.SGD(
                parameters, rate, momentum=training.momentum, weight_decay=training.weight_decay, fused=True
            )
        case "acqn_like":
            return AdaptiveCubicQuasiNewton(parameters, rate, weight_decay=training.weight_decay)
