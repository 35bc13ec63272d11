"""Residual blocks, MONAI's `SegResEncoder` (Myronenko, arXiv 1810.11654). Level i is halved i times."""

from __future__ import annotations

from monai.networks.nets.segresnet_ds import SegResEncoder
from torch import nn

from polyward_client.trainer.encoders.blocks import RELU
from polyward_client.trainer.encoders.norms import norm_words
from polyward_shared.encoders import SegRes
from polyward_shared.study import Image


def segres(encoder: SegRes, image: Image) -> nn.Module:
    """Levels of `filters`, 2 `filters`, ... channels at strides 1, 2, 4, ..."""
    module: nn.Module = SegResEncoder(
        spatial_dims=len(image.size),
        init_filters=encoder.filters,
        in_channels=image.channels,
        act=RELU,
        norm=norm_words(encoder),
        blocks_down=encoder.blocks,
    )
    return module
