"""Encoders as others may write them: one that works, and one for each way of going wrong."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COUNTER = itertools.count()


class Tiny(nn.Module):
    """Two levels at strides 1 and 2."""

    def __init__(self, in_channels: int, spatial_dims: int, width: int = 4) -> None:
        super().__init__()
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.fine = convolution(in_channels, width, 3, padding=1)
        self.coarse = convolution(width, width, 3, padding=1, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x)
        return [fine, self.coarse(F.relu(fine))]


class Aliased(Tiny):
    """One layer under two names, and one that nothing uses."""

    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.again = self.fine
        self.idle = nn.Linear(2, 2)


class Tabled(Tiny):
    """Raw parameters: one that the class draws, one that it sets."""

    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.table = nn.Parameter(torch.randn(1, 4, *[1] * spatial_dims))
        self.scale = nn.Parameter(torch.full((4,), 0.5))

    def forward(self, x: Tensor) -> list[Tensor]:
        fine, coarse = super().forward(x)
        return [fine + self.table, coarse * self.scale.mean()]


class Normed(Tiny):
    """A batch norm under two names."""

    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.norm = nn.BatchNorm2d(4)
        self.again = self.norm

    def forward(self, x: Tensor) -> list[Tensor]:
        fine, coarse = super().forward(x)
        return [self.norm(fine), coarse]


class Averaging(Tiny):
    """Running statistics of something that is no batch norm."""

    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)


class Doubled(Tiny):
    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.double()


class Single(Tiny):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


class Backwards(Tiny):
    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x)[::-1]


class Thirds(Tiny):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(super().forward(x)[0], 2, stride=3)]


class Pooled(Tiny):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [super().forward(x)[0].mean((2, 3))]


class Random(Tiny):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [level + torch.rand(1) for level in super().forward(x)]


class Dropping(Tiny):
    """Dropout as a layer; none at a share of 0."""

    def __init__(self, in_channels: int, spatial_dims: int, share: float = 0.1) -> None:
        super().__init__(in_channels, spatial_dims)
        self.drop = nn.Dropout2d(share)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.drop(level) for level in super().forward(x)]


class Attending(Tiny):
    """Dropout as a number that a layer keeps."""

    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.attention = nn.MultiheadAttention(4, 1, dropout=0.2)


class Shaken(Tiny):
    """Dropout as a function, which no layer shows."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.dropout(level, 0.1, self.training) for level in super().forward(x)]


class Afraid(Tiny):
    """Fails where all is dark."""

    def forward(self, x: Tensor) -> list[Tensor]:
        if not bool(x.any()):
            raise ValueError("too dark")
        return super().forward(x)


class Counted(Tiny):
    """One raw number that differs between two buildings and cannot be told from a chosen one."""

    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.shift = nn.Parameter(torch.tensor([float(next(COUNTER))]))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [level + self.shift for level in super().forward(x)]


class Frozen(Tiny):
    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        super().__init__(in_channels, spatial_dims)
        self.requires_grad_(False)


class Failing(Tiny):
    def forward(self, x: Tensor) -> list[Tensor]:
        raise KeyError("a mistake of its own")


def function(in_channels: int, spatial_dims: int) -> nn.Module:
    return Tiny(in_channels, spatial_dims)
