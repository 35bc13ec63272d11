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
from polyward_client.trainer.encoders import Pyramid, initialise
from polyward_client.trainer.tasks import TaskKind
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study

POOLED_LEVELS = 2  # the deepest ones: coarse meaning, and one step finer
CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
DECONVOLUTION: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
Pyr = list[Tensor]


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
        groups = [_groups(study.encoder.groups, width) for width in pyramid.channels]
        convolution = CONVOLUTION[pyramid.dims]
        if self.is_map or joints.exchanges:
            self.decoder: Decoder | None = Decoder(pyramid, groups, options.decoder, gated=joints.gated)
        else:
            self.decoder = None
        self.cbam = CBAM(pyramid.channels[-1], convolution) if options.attention == "cbam" else None
        finest = pyramid.channels[0]
        if self.is_map:
            self.norm: nn.Module = nn.GroupNorm(groups[0], finest) if options.decoder == "residual" else nn.Identity()
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


class Decoder(nn.Module):
    """Up the pyramid, level by level. Stage i ends at level L-2-i with that level's width.

    `residual`: additive skips, one convolution with a shortcut, as the decoder of SegResNet (arXiv 1810.11654).
    `unet`: transposed convolution, concatenated skip, two convolutions (arXiv 1505.04597).
    """

    def __init__(self, pyramid: Pyramid, groups: list[int], kind: str, *, gated: bool) -> None:
        super().__init__()
        convolution, dims = CONVOLUTION[pyramid.dims], pyramid.dims
        self.kind, self.stages = kind, len(pyramid.channels) - 1
        pairs = list(zip(pyramid.channels[-2::-1], pyramid.channels[:0:-1], groups[-2::-1], strict=True))
        if kind == "residual":
            self.ups = nn.ModuleList(convolution(deep, fine, 1, bias=False) for fine, deep, _ in pairs)
            self.norms = nn.ModuleList(nn.GroupNorm(count, fine) for fine, _, count in pairs)
            self.blocks = nn.ModuleList(convolution(fine, fine, 3, padding=1, bias=False) for fine, _, _ in pairs)
        else:
            steps = [deep // fine for fine, deep in zip(pyramid.strides[-2::-1], pyramid.strides[:0:-1], strict=True)]
            self.ups = nn.ModuleList(
                DECONVOLUTION[dims](deep, fine, step, stride=step)
                for (fine, deep, _), step in zip(pairs, steps, strict=True)
            )
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    convolution(2 * fine, fine, 3, padding=1),
                    nn.GroupNorm(count, fine),
                    nn.ReLU(),
                    convolution(fine, fine, 3, padding=1),
                    nn.GroupNorm(count, fine),
                    nn.ReLU(),
                )
                for fine, _, count in pairs
            )
        # MTAN (Liu et al., arXiv 1803.10704, eq. 1-2): the pyramid's features, each weighted by 0..1
        self.gates = nn.ModuleList(
            nn.Sequential(convolution(2 * fine, fine, 1), nn.ReLU(), convolution(fine, fine, 1), nn.Sigmoid())
            for fine, _, _ in (pairs if gated else ())
        )

    def stage(self, number: int, h: Tensor, pyramid: Pyr) -> Tensor:
        skip, up = pyramid[-2 - number], self.ups[number](h)
        if self.kind == "residual":
            up = F.interpolate(up, size=skip.shape[2:], mode="nearest")
        if len(self.gates):
            skip = skip * self.gates[number](torch.cat((skip, up), 1))
        if self.kind != "residual":
            return self.blocks[number](torch.cat((skip, up), 1))  # type: ignore[no-any-return]
        x = up + skip
        return x + self.blocks[number](F.relu(self.norms[number](x)))  # type: ignore[no-any-return]


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


def _groups(wanted: int, width: int) -> int:
    """The largest divisor of the width that is not above the wanted number of groups."""
    return next(count for count in range(min(wanted, width), 0, -1) if width % count == 0)
