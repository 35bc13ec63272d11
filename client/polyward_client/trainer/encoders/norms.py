"""The norms of the convolutional encoders: group norm, or batch norm that bears a batch of one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from polyward_shared.encoders import BasicUNet, ResNet, SegRes

Normed = SegRes | BasicUNet | ResNet


class BatchNorm2d(nn.BatchNorm2d):
    """One value for each channel has no spread, and torch refuses it in training: it is normalised as in evaluation,
    by the running statistics, which do not move."""

    def forward(self, x: Tensor) -> Tensor:
        return by_running_statistics(self, x) if is_lone(x) else super().forward(x)


class BatchNorm3d(nn.BatchNorm3d):
    """As `BatchNorm2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return by_running_statistics(self, x) if is_lone(x) else super().forward(x)


BATCH: dict[int, type[nn.Module]] = {2: BatchNorm2d, 3: BatchNorm3d}


def is_lone(x: Tensor) -> bool:
    """Whether there is one image, of one place: [1, channels, 1, 1]."""
    return x.numel() == x.shape[1]


def by_running_statistics(norm: _BatchNorm, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def norm_words(encoder: Normed) -> tuple[str, dict[str, Any]]:
    """The norm in MONAI's words."""
    return ("batch", {}) if encoder.norm == "batch" else ("group", {"num_groups": encoder.groups})


def make_norm(encoder: Normed, dims: int, width: int) -> nn.Module:
    return BATCH[dims](width) if encoder.norm == "batch" else nn.GroupNorm(encoder.groups, width)


def put_in_place(module: nn.Module, dims: int) -> None:
    """Our batch norms where a library put torch's."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) in {nn.BatchNorm2d, nn.BatchNorm3d}:
                setattr(parent, name, BATCH[dims](child.num_features))
