"""A vision transformer (Dosovitskiy et al., arXiv 2010.11929) under a simple feature pyramid (arXiv 2203.16527).

All patches attend to each other; the last tokens alone make every level: two levels finer than the patches by
transposed convolutions, the patches themselves, and one level coarser by pooling.
"""

from __future__ import annotations

from monai.networks.nets.vit import ViT as Transformer
from torch import Tensor, nn

from polyward_client.trainer.encoders.blocks import TRANSPOSED, halved
from polyward_shared.encoders import ViT
from polyward_shared.problems import Problem
from polyward_shared.study import Image


class ViTPyramid(nn.Module):
    """Levels of `width` / 4, `width` / 2, `width`, `width` channels at strides patch / 4, patch / 2, patch, 2 patch.

    The images always have the study's size, for every patch has a place embedding of its own. Raises `Problem`.
    """

    def __init__(self, encoder: ViT, image: Image) -> None:
        super().__init__()
        if encoder.width % encoder.heads or encoder.width % 4:
            divisors = f"a multiple of 4 and of encoder.heads ({encoder.heads})"
            raise Problem("encoder.width", f"found {encoder.width}", expected=divisors)
        self.patch = encoder.patch
        transposed, width = TRANSPOSED[len(image.size)], encoder.width
        self.transformer = Transformer(
            in_channels=image.channels,
            img_size=image.seen,
            patch_size=encoder.patch,
            hidden_size=width,
            mlp_dim=4 * width,
            num_layers=encoder.layers,
            num_heads=encoder.heads,
            spatial_dims=len(image.size),
        )
        self.finest = nn.Sequential(
            transposed(width, width // 2, 2, stride=2),
            nn.GroupNorm(encoder.groups, width // 2),
            nn.GELU(),
            transposed(width // 2, width // 4, 2, stride=2),
        )
        self.finer = transposed(width, width // 2, 2, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        tokens, _ = self.transformer(x)  # [batch, patches, width]
        patches = tokens.transpose(1, 2).unflatten(2, [side // self.patch for side in x.shape[2:]])
        patches = patches.contiguous()  # torch 2.13 crashes in the backward pass of what reads them otherwise
        return [self.finest(patches), self.finer(patches), patches, halved(patches)]
