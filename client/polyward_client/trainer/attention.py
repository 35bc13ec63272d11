"""CBAM: which channels, then which places of a feature map matter (Woo et al., arXiv 1807.06521, eq. 2 and 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REDUCTION = 4  # of the channels inside the channel attention
REACH = 7  # of the spatial attention's convolution


class CBAM(nn.Module):
    """[batch, channels, *spatial] -> the same shape, each value scaled by two attentions in (0, 1)."""

    def __init__(self, channels: int, convolution: type[nn.Conv2d] | type[nn.Conv3d]) -> None:
        super().__init__()
        inner = max(1, channels // REDUCTION)
        self.squeeze, self.excite = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.places = convolution(2, 1, REACH, padding=REACH // 2)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        channels = sum(self.excite(F.relu(self.squeeze(pooled))) for pooled in (flat.mean(-1), flat.amax(-1)))
        x = x * torch.sigmoid(channels).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
        places = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        return x * torch.sigmoid(self.places(places))
