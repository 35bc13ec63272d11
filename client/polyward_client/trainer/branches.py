"""The personal part: pyramid -> one prediction per task. Each branch owns all that stands behind the pyramid.

Shapes: p_i [batch, channels_i, *spatial / stride_i]; image-level outputs [batch, channels], maps [batch, channels,
*spatial]. A branch works in steps, so that a topology can act between them: `start`, `stage` by stage up the pyramid,
`finish`. An image-level branch has stages only where it exchanges features with others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.attention import CBAM
from polyward_client.trainer.decoders import CONVOLUTION, DECODERS, Decoder, Pyr, fitting_groups
from polyward_client.trainer.encoders import Pyramid, initialise
from polyward_client.trainer.tasks import TaskKind
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study

POOLED_LEVELS = 2  # the deepest ones: coarse meaning, and one step finer


@dataclass(frozen=True, slots=True)
class Joints:
    """What the edges of a topology need of a branch."""

    vectors: int = 0  # values [batch, vectors] that come in: what other tasks say, and side inputs
    maps: int = 0  # channels that come in at full resolution
    exchanges: bool = False  # takes part in an interaction, so it has stages
    gated: bool = False  # sees the pyramid through attention (MTAN)
    early: tuple[int, ...] = ()  # stages after which it makes a first prediction (distillation)


def build_branch(study: Study, kind: TaskKind, pyramid: Pyramid, joints: Joints) -> Branch:
    """The branch of a task at its first state, equal at every site with the same edges."""
    branch = Branch(study, kind, pyramid, joints)
    initialise(branch, seed_for(study.seed, "branch", kind.name))
    return branch


class Branch(nn.Module):
    """One task's way from the pyramid to its output."""

    def __init__(self, study: Study, kind: TaskKind, pyramid: Pyramid, joints: Joints) -> None:
        super().__init__()
        self.is_map, self.joints = kind.level == "map", joints
        task, options = study.tasks[kind.name], study.branches
        attends = getattr(task, "pooling", "mean") == "attention" and task.group is not None  # type: ignore[union-attr]
        groups = [fitting_groups(study.encoder.groups, width) for width in pyramid.channels]
        convolution = CONVOLUTION[pyramid.dims]
        chosen = DECODERS[options.decoder]
        if self.is_map or joints.exchanges:
            self.decoder: Decoder | None = chosen(pyramid, groups, gated=joints.gated)
        else:
            self.decoder = None
        self.cbam = CBAM(pyramid.channels[-1], convolution) if options.attention == "cbam" else None
        finest = pyramid.channels[0]
        if self.is_map:
            self.norm: nn.Module = nn.Identity() if chosen.normed else nn.GroupNorm(groups[0], finest)
            self.stride = pyramid.strides[0]
            incoming = joints.maps + joints.vectors
            self.adapter = convolution(finest + incoming, finest, 1) if incoming else None
            self.head: nn.Module = convolution(finest, kind.channels, 1)
        else:
            levels = pyramid.channels[-POOLED_LEVELS:]
            self.norms = nn.ModuleList(
                nn.GroupNorm(count, width) for count, width in zip(groups[-POOLED_LEVELS:], levels, strict=True)
            )
            features = 2 * (sum(levels) + (finest if self.decoder else 0)) + joints.vectors
            self.mix = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, options.hidden), nn.ReLU())
            self.head = kind.head(options.hidden)
            # the last channel says how much an image counts in its group (Ilse et al., arXiv 1802.04712)
            self.importance = nn.Linear(options.hidden, 1) if attends else None
        self.early = nn.ModuleDict({str(i): self._early(kind, pyramid, i, convolution) for i in joints.early})
        self.dropout = Dropout(options.dropout)
        self.register_buffer("progress", torch.tensor([torch.inf, 0.0]))  # best val loss; measured rounds since then

    def _early(self, kind: TaskKind, pyramid: Pyramid, stage: int, convolution: type[nn.Module]) -> nn.Module:
        width = pyramid.channels[-2 - stage]
        return convolution(width, kind.channels, 1) if self.is_map else nn.Linear(width, kind.channels)

    def start(self, pyramid: Pyr) -> Tensor:
        return self.cbam(pyramid[-1]) if self.cbam is not None else pyramid[-1]

    def stage(self, number: int, h: Tensor, pyramid: Pyr) -> Tensor:
        assert self.decoder is not None  # noqa: S101  # the topology asks only branches that have stages
        return self.decoder.stage(number, h, pyramid)

    def decoded(self, pyramid: Pyr) -> Tensor | None:
        """All stages in turn, where nothing is exchanged between them."""
        if self.decoder is None:
            return None
        h = self.start(pyramid)
        for number in range(self.decoder.stages):
            h = self.stage(number, h, pyramid)
        return h

    def early_output(self, number: int, h: Tensor, size: tuple[int, ...]) -> Tensor:
        """The first prediction after a stage, a map at full resolution."""
        head = self.early[str(number)]
        return F.interpolate(head(h), size=size, mode="nearest") if self.is_map else head(h.flatten(2).mean(-1))

    def finish(
        self,
        pyramid: Pyr,
        h: Tensor | None,
        vectors: list[Tensor],
        maps: list[Tensor],
        noise: torch.Generator | None,
        *,
        sampled: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The output, and the features behind it. `sampled`: dropout even in evaluation, for Monte-Carlo passes."""
        active = sampled or self.training
        if not self.is_map:
            features = self.dropout(self.mix(torch.cat([*self._pooled(pyramid, h), *vectors], 1)), noise, active)
            answer = self.head(features)
            if self.importance is not None:
                answer = torch.cat((answer, self.importance(features)), 1)
            return answer, features
        assert h is not None  # noqa: S101
        x = F.relu(self.norm(h))
        if self.stride > 1:
            x = F.interpolate(x, scale_factor=float(self.stride), mode="nearest")
        if self.adapter is not None:
            everywhere = [vector.reshape(*vector.shape, *[1] * (x.ndim - 2)) for vector in vectors]
            spread = [vector.expand(-1, -1, *x.shape[2:]) for vector in everywhere]
            x = self.adapter(torch.cat([x, *maps, *spread], 1))
        return self.head(self.dropout(x, noise, active)), x

    def _pooled(self, pyramid: Pyr, h: Tensor | None) -> list[Tensor]:
        pooled = []
        for place, (norm, level) in enumerate(zip(self.norms, pyramid[-POOLED_LEVELS:], strict=True), start=1):
            active = F.relu(norm(level))
            if self.cbam is not None and place == POOLED_LEVELS:
                active = self.cbam(active)
            flat = active.flatten(2)
            pooled += [flat.mean(-1), flat.amax(-1)]
        if h is not None:
            flat = h.flatten(2)
            pooled += [flat.mean(-1), flat.amax(-1)]
        return pooled


class Dropout(nn.Module):
    """Dropout that draws from a generator of its own, so that sites in one process do not disturb each other."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, noise: torch.Generator | None, active: bool) -> Tensor:
        if not self.share or not active:
            return x
        kept = torch.rand(x.shape, generator=noise, device=x.device) >= self.share
        return x * kept / (1 - self.share)
