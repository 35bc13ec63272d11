"""The contracting half of a U-Net (Ronneberger et al., arXiv 1505.04597): two convolutions for each level."""

from __future__ import annotations

from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from polyward_client.trainer.encoders.blocks import halved
from polyward_client.trainer.encoders.norms import norm_words
from polyward_shared.encoders import BasicUNet
from polyward_shared.study import Image

LEAKY = ("leakyrelu", {"negative_slope": 0.1, "inplace": False})


class UNetPyramid(nn.Module):
    """Levels of `widths` channels at strides 1, 2, 4, ..."""

    def __init__(self, encoder: BasicUNet, image: Image) -> None:
        super().__init__()
        before = (image.channels, *encoder.widths)
        self.levels = nn.ModuleList(
            TwoConv(len(image.size), inputs, width, act=LEAKY, norm=norm_words(encoder), bias=True)
            for inputs, width in zip(before, encoder.widths, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        pyramid: list[Tensor] = []
        for level in self.levels:
            pyramid.append(level(halved(pyramid[-1]) if pyramid else x))
        return pyramid
