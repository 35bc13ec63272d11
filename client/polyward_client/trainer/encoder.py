"""The shared encoder: image [batch, channels, *spatial] -> pyramid, finest level first, level i halved i times.

MONAI's `SegResEncoder` (Myronenko, arXiv 1810.11654) with group norm: it has no buffers, runs at any batch size, and
its activations are not in place, for branches read the same features.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.networks.nets.segresnet_ds import SegResEncoder
from torch import nn

from polyward_shared.seeds import seed_for
from polyward_shared.study import Study

WEIGHTED = (nn.Linear, nn.Conv2d, nn.Conv3d)


def build_encoder(study: Study) -> nn.Module:
    """The study's encoder at its first state, equal at every site."""
    encoder: nn.Module = SegResEncoder(
        spatial_dims=len(study.image.size),
        init_filters=study.encoder.filters,
        in_channels=study.image.channels,
        act=("relu", {"inplace": False}),
        norm=("group", {"num_groups": study.encoder.groups}),
        blocks_down=study.encoder.blocks,
    )
    initialise(encoder, seed_for(study.seed, "encoder"))
    return encoder


def widths(study: Study) -> tuple[int, ...]:
    """Channels of each level of the pyramid."""
    return tuple(study.encoder.filters * 2**level for level in range(len(study.encoder.blocks)))


def initialise(module: nn.Module, seed: int) -> None:
    """Kaiming-uniform weights (He et al., arXiv 1502.01852) and zero biases, in the order of the module tree.

    Drawn by numpy: torch's draws differ in the last bit between processors, and sites compare digests.
    """
    generator = np.random.default_rng(seed)
    for layer in module.modules():
        if not isinstance(layer, WEIGHTED):
            continue
        bound = np.float32(math.sqrt(6 / layer.weight[0].numel()))
        drawn = generator.random(tuple(layer.weight.shape), np.float32)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy((2 * drawn - 1) * bound))
            if layer.bias is not None:
                layer.bias.zero_()
