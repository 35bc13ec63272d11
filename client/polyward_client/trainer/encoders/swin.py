"""Attention in shifted windows, MONAI's `SwinTransformer` (Liu et al., arXiv 2103.14030)."""

from __future__ import annotations

from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from polyward_shared.encoders import Swin
from polyward_shared.problems import Problem
from polyward_shared.study import Image


def swin(encoder: Swin, image: Image) -> nn.Module:
    """Levels of `width` times 1, 2, 4, 8, 16 channels at strides 2, 4, 8, 16, 32. Raises `Problem`."""
    for stage, heads in enumerate(encoder.heads):
        if (width := encoder.width << stage) % heads:
            raise Problem("encoder.heads", f"found {heads} in stage {stage + 1}", expected=f"a divisor of {width}")
    dims = len(image.size)
    module: nn.Module = SwinTransformer(
        in_chans=image.channels,
        embed_dim=encoder.width,
        window_size=(encoder.window,) * dims,
        patch_size=(2,) * dims,
        depths=encoder.depths,
        num_heads=encoder.heads,
        downsample="mergingv2",
        spatial_dims=dims,
    )
    for part in list(module.modules()):
        for name, constant in part.named_buffers(recurse=False):
            part.register_buffer(name, constant, persistent=False)  # indices that follow from the window's size
    return module
