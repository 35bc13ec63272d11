"""The personal part: pyramid -> one prediction per task. Each branch owns all that stands behind the pyramid.

Shapes: p_i [batch, widths[i], *spatial / 2^i]; image-level outputs [batch, outputs], masks [batch, classes, *spatial].
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.encoder import initialise, widths
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study
from polyward_shared.tasks import Ordinal, Regression, Segmentation, outputs

POOLED_LEVELS = 2  # the deepest ones: coarse meaning, and one step finer
HIDDEN = 64
CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


def build_branch(study: Study, name: str) -> nn.Module:
    """The branch of a task at its first state, equal at every site."""
    task = study.tasks[name]
    branch: nn.Module = MaskBranch(study, outputs(task)) if isinstance(task, Segmentation) else ImageBranch(study, name)
    initialise(branch, seed_for(study.seed, "branch", name))
    return branch


class Ordered(nn.Module):
    """CORAL (Cao, Mirjalili, Raschka, arXiv 1901.07884, eq. 3): one weight vector, one bias for each threshold.

    P(y > k) = sigmoid(w.x + b_k). The biases fall by construction, b_k = b_0 - sum softplus(gap), so probabilities
    are monotone at every step of training. The first biases alone make every class equally likely.
    """

    def __init__(self, features: int, thresholds: int) -> None:
        super().__init__()
        first = [math.log((thresholds - k) / (k + 1)) for k in range(thresholds)]
        self.weight = nn.Linear(features, 1, bias=False)
        self.top = nn.Parameter(torch.tensor([first[0]]))
        gaps = [math.log(math.expm1(high - low)) for high, low in itertools.pairwise(first)]
        self.gaps = nn.Parameter(torch.tensor(gaps)) if gaps else None

    def forward(self, x: Tensor) -> Tensor:
        """[batch, features] -> logits of y > 0, y > 1, ... [batch, thresholds]."""
        score: Tensor = self.weight(x)
        if self.gaps is None:
            return score + self.top
        falls = torch.cat((self.top.new_zeros(1), F.softplus(self.gaps).cumsum(0)))
        return score + (self.top - falls)


class ImageBranch(nn.Module):
    """One answer for the whole image: mean and maximum of the deepest levels -> a small network -> outputs."""

    target: Tensor

    def __init__(self, study: Study, name: str) -> None:
        super().__init__()
        task, levels = study.tasks[name], widths(study)[-POOLED_LEVELS:]
        self.norms = nn.ModuleList(nn.GroupNorm(study.encoder.groups, width) for width in levels)
        features = 2 * sum(levels)
        self.mix = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, HIDDEN), nn.ReLU())
        self.head: nn.Module = (
            Ordered(HIDDEN, outputs(task)) if isinstance(task, Ordinal) else nn.Linear(HIDDEN, outputs(task))
        )
        if isinstance(task, Regression):  # mean and spread of the site's training labels; no parameter
            self.register_buffer("target", torch.tensor([0.0, 1.0]))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        pooled = []
        for norm, level in zip(self.norms, pyramid[-POOLED_LEVELS:], strict=True):
            flat = F.relu(norm(level)).flatten(2)
            pooled += [flat.mean(-1), flat.amax(-1)]
        return self.head(self.mix(torch.cat(pooled, 1)))  # type: ignore[no-any-return]


class MaskBranch(nn.Module):
    """A label for each pixel: up the pyramid with additive skips, as the decoder of SegResNet (arXiv 1810.11654)."""

    def __init__(self, study: Study, classes: int) -> None:
        super().__init__()
        convolution, groups, sizes = CONVOLUTION[len(study.image.size)], study.encoder.groups, widths(study)
        self.ups = nn.ModuleList(
            convolution(deep, fine, 1, bias=False) for fine, deep in zip(sizes[-2::-1], sizes[:0:-1], strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(groups, fine) for fine in sizes[-2::-1])
        self.blocks = nn.ModuleList(convolution(fine, fine, 3, padding=1, bias=False) for fine in sizes[-2::-1])
        self.norm = nn.GroupNorm(groups, sizes[0])
        self.head = convolution(sizes[0], classes, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        x = pyramid[-1]
        for up, norm, block, skip in zip(self.ups, self.norms, self.blocks, pyramid[-2::-1], strict=True):
            x = F.interpolate(up(x), scale_factor=2.0, mode="nearest") + skip
            x = x + block(F.relu(norm(x)))
        return self.head(F.relu(self.norm(x)))  # type: ignore[no-any-return]
