"""Up the pyramid, level by level: what a branch does before its head. `DECODERS` is the list.

Stage i takes h [batch, channels, *spatial] of level L-1-i and ends at level L-2-i with that level's width and size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.encoders import Pyramid

CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
DECONVOLUTION: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
Pyr = list[Tensor]


class Decoder(nn.Module, ABC):
    """A subclass says how features rise one level (`up`) and how they meet the encoder's there (`merge`).

    With `gated`, the encoder's features are weighted by 0..1 first (MTAN, Liu et al., arXiv 1803.10704, eq. 1-2).
    """

    normed: ClassVar[bool] = True  # whether a stage ends with a norm; otherwise the branch puts one before its head

    def __init__(self, pyramid: Pyramid, groups: list[int], *, gated: bool) -> None:
        super().__init__()
        self.stages = len(pyramid.channels) - 1
        self.build(pyramid, list(zip(pyramid.channels[-2::-1], pyramid.channels[:0:-1], groups[-2::-1], strict=True)))
        convolution = CONVOLUTION[pyramid.dims]
        self.gates = nn.ModuleList(
            nn.Sequential(convolution(2 * fine, fine, 1), nn.ReLU(), convolution(fine, fine, 1), nn.Sigmoid())
            for fine in (pyramid.channels[-2::-1] if gated else ())
        )

    @abstractmethod
    def build(self, pyramid: Pyramid, stages: list[tuple[int, int, int]]) -> None:
        """Makes the layers; for each stage its width, the width below it, and the groups of its norms."""

    @abstractmethod
    def up(self, number: int, h: Tensor, size: torch.Size) -> Tensor:
        """h at the width and the spatial size of the next level."""

    @abstractmethod
    def merge(self, number: int, up: Tensor, skip: Tensor) -> Tensor:
        """Two tensors of the same shape -> one."""

    def stage(self, number: int, h: Tensor, pyramid: Pyr) -> Tensor:
        skip = pyramid[-2 - number]
        up = self.up(number, h, skip.shape[2:])
        if len(self.gates):
            skip = skip * self.gates[number](torch.cat((skip, up), 1))
        return self.merge(number, up, skip)


class ResidualDecoder(Decoder):
    """Additive skips, one convolution with a shortcut, as the decoder of SegResNet (arXiv 1810.11654)."""

    normed = False

    def build(self, pyramid: Pyramid, stages: list[tuple[int, int, int]]) -> None:
        convolution = CONVOLUTION[pyramid.dims]
        self.ups = nn.ModuleList(convolution(deep, fine, 1, bias=False) for fine, deep, _ in stages)
        self.norms = nn.ModuleList(nn.GroupNorm(count, fine) for fine, _, count in stages)
        self.blocks = nn.ModuleList(convolution(fine, fine, 3, padding=1, bias=False) for fine, _, _ in stages)

    def up(self, number: int, h: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(self.ups[number](h), size=size, mode="nearest")

    def merge(self, number: int, up: Tensor, skip: Tensor) -> Tensor:
        x = up + skip
        return x + self.blocks[number](F.relu(self.norms[number](x)))  # type: ignore[no-any-return]


class UNetDecoder(Decoder):
    """Transposed convolution, concatenated skip, two convolutions (arXiv 1505.04597)."""

    def build(self, pyramid: Pyramid, stages: list[tuple[int, int, int]]) -> None:
        convolution, deconvolution = CONVOLUTION[pyramid.dims], DECONVOLUTION[pyramid.dims]
        steps = [deep // fine for fine, deep in zip(pyramid.strides[-2::-1], pyramid.strides[:0:-1], strict=True)]
        self.ups = nn.ModuleList(
            deconvolution(deep, fine, step, stride=step) for (fine, deep, _), step in zip(stages, steps, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                convolution(2 * fine, fine, 3, padding=1),
                nn.GroupNorm(count, fine),
                nn.ReLU(),
                convolution(fine, fine, 3, padding=1),
                nn.GroupNorm(count, fine),
                nn.ReLU(),
            )
            for fine, _, count in stages
        )

    def up(self, number: int, h: Tensor, size: torch.Size) -> Tensor:
        return self.ups[number](h)  # type: ignore[no-any-return]

    def merge(self, number: int, up: Tensor, skip: Tensor) -> Tensor:
        return self.blocks[number](torch.cat((skip, up), 1))  # type: ignore[no-any-return]


DECODERS: dict[str, type[Decoder]] = {"residual": ResidualDecoder, "unet": UNetDecoder}


def fitting_groups(wanted: int, width: int) -> int:
    """The largest divisor of the width that is not above the wanted number of groups."""
    return next(count for count in range(min(wanted, width), 0, -1) if width % count == 0)
