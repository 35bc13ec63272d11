"""Residual network features (He et al., arXiv 1512.03385) out of MONAI's blocks.

Not MONAI's `ResNetFeatures`: its batch norm is fixed, and fails on a batch of one small volume.
"""

from __future__ import annotations

from typing import Any

from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.encoders.blocks import CONVOLUTION, RELU, halved
from polyward_client.trainer.encoders.norms import make_norm, norm_words
from polyward_shared.encoders import ResNet
from polyward_shared.study import Image

WIDTHS = (64, 128, 256, 512)
LAYERS: dict[int, tuple[Any, tuple[int, ...]]] = {  # the block, and how many of it each stage has
    10: (ResNetBlock, (1, 1, 1, 1)),
    18: (ResNetBlock, (2, 2, 2, 2)),
    34: (ResNetBlock, (3, 4, 6, 3)),
    50: (ResNetBottleneck, (3, 4, 6, 3)),
}


class ResNetPyramid(nn.Module):
    """Levels at strides 2, 4, 8, 16, 32: the stem's 64 channels, then 64, 128, 256, 512 (four times that for 50)."""

    def __init__(self, encoder: ResNet, image: Image) -> None:
        super().__init__()
        convolution, (block, counts) = CONVOLUTION[len(image.size)], LAYERS[encoder.depth]
        kind = {"spatial_dims": len(image.size), "act": RELU, "norm": norm_words(encoder)}
        self.stem = convolution(image.channels, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.norm = make_norm(encoder, len(image.size), WIDTHS[0])
        self.stages, inputs = nn.ModuleList(), WIDTHS[0]
        for stage, (width, count) in enumerate(zip(WIDTHS, counts, strict=True)):
            stride, outputs = 1 if stage == 0 else 2, width * block.expansion
            shortcut = None
            if (stride, inputs) != (1, outputs):
                projection = convolution(inputs, outputs, 1, stride=stride, bias=False)
                shortcut = nn.Sequential(projection, make_norm(encoder, len(image.size), outputs))
            first = block(inputs, width, stride=stride, downsample=shortcut, **kind)
            self.stages.append(nn.Sequential(first, *(block(outputs, width, **kind) for _ in range(count - 1))))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        pyramid = [F.relu(self.norm(self.stem(x)))]
        for index, stage in enumerate(self.stages):
            pyramid.append(stage(pyramid[-1] if index else halved(pyramid[0])))
        return pyramid
