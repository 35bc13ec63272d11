"""What several kinds of encoders are made of."""

from __future__ import annotations

from torch import Tensor, nn

RELU = ("relu", {"inplace": False})
CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def halved(x: Tensor) -> Tensor:
    """The maximum of every 2x2 (2x2x2) cell: [batch, channels, *spatial] -> [batch, channels, *spatial / 2].

    Not torch's max pooling: in 3D that has no deterministic backward pass on a GPU.
    """
    cells = [part for side in x.shape[2:] for part in (side // 2, 2)]
    return x.reshape(*x.shape[:2], *cells).amax(tuple(range(3, 2 * x.ndim - 2, 2)))
