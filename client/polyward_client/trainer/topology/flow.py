"""Runs a site's graph: branches side by side, stage by stage where they exchange features, sources before targets."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from polyward_client.trainer.branches import Branch
from polyward_client.trainer.decoders import CONVOLUTION
from polyward_client.trainer.encoders import Pyramid, initialise
from polyward_client.trainer.tasks import Kinds, TaskKind, kind_of
from polyward_client.trainer.topology.edges import SiteGraph, evidence_width, exchange_stages, is_mask
from polyward_client.trainer.topology.exchange import NDDR, CrossStitch, Distillation
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study
from polyward_shared.topologies import Cascade, Interaction

EPSILON = 1e-6  # keeps an empty mask's mean finite


@dataclass(frozen=True, slots=True)
class Truth:
    """A task's targets in a batch, and which cases have one: for teacher forcing."""

    target: Tensor
    labelled: Tensor


@dataclass(slots=True)
class Outputs:
    """One output by task, and the first predictions of tasks that distil them."""

    final: dict[str, Tensor] = field(default_factory=dict)
    early: dict[str, list[Tensor]] = field(default_factory=dict)


@dataclass(slots=True)
class Situation:
    """One batch on its way: what comes in from outside, and what the tasks have said so far."""

    pyramid: list[Tensor]
    branches: Mapping[str, Branch]
    size: tuple[int, ...]  # spatial, of the images
    vectors: Mapping[str, list[Tensor]] = field(default_factory=dict)  # side inputs by task
    truths: Mapping[str, Truth] = field(default_factory=dict)  # in training, where cascades may be fed with true labels
    noise: torch.Generator | None = None
    outputs: Outputs = field(default_factory=Outputs)
    h: dict[str, Tensor | None] = field(default_factory=dict)  # the end of each decoder
    inputs: dict[str, tuple[list[Tensor], list[Tensor]]] = field(default_factory=dict)  # vectors and maps of a branch
    features: dict[str, Tensor] = field(default_factory=dict)


class Flow(nn.Module):
    """The graph of one site, with the units that belong to several of its tasks (`interaction.`)."""

    def __init__(self, study: Study, graph: SiteGraph, kinds: Kinds, pyramid: Pyramid) -> None:
        super().__init__()
        self.graph, self.pyramid, self.study = graph, pyramid, study
        self.stages = len(pyramid.channels) - 1
        # a source that is absent here still has a kind: its classes count as equally likely
        sources = {edge.source for edges in graph.into.values() for edge in edges}
        self.sources = {name: kinds.get(name) or kind_of(study, name) for name in sources}
        self.groups = nn.ModuleDict()
        for group in graph.interactions:
            if group.unit != "attention":  # whose parameters belong to the branches
                self.groups[task_set(group.tasks)] = self._units(group)

    def forward(self, now: Situation, wanted: Sequence[str]) -> Outputs:
        """Outputs of the wanted tasks, and of no other."""
        needed = self.graph.needed(wanted)
        self._exchange(now, needed)
        for task in needed:
            branch = now.branches[task]
            if task not in now.h:
                now.h[task] = branch.decoded(now.pyramid)
            vectors, maps = list(now.vectors.get(task, ())), []
            for edge in self.graph.into.get(task, ()):
                said = self._said(edge, now)
                if said.ndim == 2:
                    vectors.append(said)
                elif branch.is_map:
                    maps.append(said)
                elif is_mask(edge, self.study.tasks[edge.source]):
                    vectors.append(masked_pool(now.pyramid[0], said))
                else:
                    vectors.append(said.flatten(2).mean(2))
            now.inputs[task] = vectors, maps
            now.outputs.final[task], now.features[task] = branch.finish(
                now.pyramid, now.h[task], vectors, maps, now.noise
            )
        final, early = now.outputs.final, now.outputs.early
        return Outputs({task: final[task] for task in wanted}, {task: early[task] for task in wanted if task in early})

    def _exchange(self, now: Situation, needed: Sequence[str]) -> None:
        """Runs the decoders of each interaction's tasks side by side, and their units between the stages."""
        for group in self.graph.interactions:
            tasks = [task for task in group.tasks if task in needed]
            if group.unit == "attention" or not tasks:
                continue
            members = {task: now.branches[task] for task in tasks}
            units: nn.ModuleList = self.groups[task_set(group.tasks)]  # type: ignore[assignment]
            at = exchange_stages(group, self.stages)
            h = {task: branch.start(now.pyramid) for task, branch in members.items()}
            for number in range(self.stages):
                h = {task: branch.stage(number, h[task], now.pyramid) for task, branch in members.items()}
                for task, branch in members.items():
                    if number in branch.joints.early:
                        first = branch.early_output(number, h[task], now.size)
                        now.outputs.early.setdefault(task, []).append(first)
                if number in at:
                    h = units[at.index(number)](h)
            now.h.update(h)

    def _said(self, edge: Cascade, now: Situation) -> Tensor:
        """What the edge's source says: [batch, width], or [batch, width, *size] of a map."""
        kind = self.sources[edge.source]
        if edge.source not in now.outputs.final:
            return self._unknown(edge, kind, now)
        output = now.outputs.final[edge.source][:, : kind.channels]  # without the weight of an image in its group
        uncertainty = None
        if edge.passes:
            said = torch.stack([self._sample(edge.source, kind, now) for _ in range(edge.passes)]).mean(0)
            uncertainty = entropy(said)
        elif edge.gives == "features":
            said = now.features[edge.source]
        else:
            said = output if edge.gives == "logits" else kind.evidence(output)
        if edge.gives == "argmax":
            said = torch.zeros_like(said).scatter_(1, said.argmax(1, keepdim=True), 1.0)
        if edge.teacher_forcing and edge.source in now.truths:
            said = _forced(said, kind, now.truths[edge.source], edge.teacher_forcing, now.noise)
        if uncertainty is not None:
            said = torch.cat((said, uncertainty), 1)
        return said.detach() if edge.detach else said

    def _sample(self, task: str, kind: TaskKind, now: Situation) -> Tensor:
        """One Monte-Carlo pass: dropout stands before the head alone, so that only the head runs again."""
        vectors, maps = now.inputs[task]
        output, _ = now.branches[task].finish(now.pyramid, now.h[task], vectors, maps, now.noise, sampled=True)
        return kind.evidence(output[:, : kind.channels])

    def _unknown(self, edge: Cascade, kind: TaskKind, now: Situation) -> Tensor:
        width = evidence_width(self.study, edge, self.pyramid)
        shape = (now.pyramid[0].shape[0], width, *(now.size if kind.level == "map" else ()))
        said = now.pyramid[0].new_full(shape, kind.unsure if edge.gives in {"probability", "argmax"} else 0.0)
        if edge.passes:
            said[:, -1] = 1.0
        return said

    def _units(self, group: Interaction) -> nn.ModuleList:
        units = nn.ModuleList()
        for number in exchange_stages(group, self.stages):
            channels = self.pyramid.channels[-2 - number]
            match group.unit:
                case "cross_stitch":
                    units.append(CrossStitch(group.tasks))
                case "nddr":
                    units.append(NDDR(group.tasks, channels))
                case _:
                    units.append(Distillation(group.tasks, channels, CONVOLUTION[self.pyramid.dims]))
        initialise(units, seed_for(self.study.seed, "interaction", *sorted(group.tasks)))
        return units


def task_set(tasks: Sequence[str]) -> str:
    """The name of a set of tasks, whatever their order."""
    return "set_" + hashlib.sha256(" ".join(sorted(tasks)).encode()).hexdigest()[:12]


def masked_pool(features: Tensor, masks: Tensor) -> Tensor:
    """Mean of the features under each mask: [batch, C, *s] and [batch, K, *S], 0 or more -> float32 [batch, K * C]."""
    # sums over places overflow in half precision
    with torch.autocast(features.device.type, enabled=False):
        features, masks = features.float(), masks.float()
        if masks.shape[2:] != features.shape[2:]:
            masks = _shrunk(masks, features)
        flat, weights = features.flatten(2), masks.flatten(2)
        sums = torch.einsum("bcn,bkn->bkc", flat, weights)
        return (sums / (weights.sum(2)[:, :, None] + EPSILON)).flatten(1)


def entropy(chances: Tensor) -> Tensor:
    """Predictive entropy over axis 1, as a share of the largest: [batch, K, ...] -> [batch, 1, ...], 0 to 1."""
    safe = chances.clamp(min=EPSILON)
    return -(safe * safe.log()).sum(1, keepdim=True) / math.log(max(chances.shape[1], 2))


def _shrunk(masks: Tensor, features: Tensor) -> Tensor:
    """Block means; the image's sides are multiples of the pyramid's."""
    steps = [large // small for large, small in zip(masks.shape[2:], features.shape[2:], strict=True)]
    for axis, step in enumerate(steps, start=2):
        masks = masks.reshape(*masks.shape[:axis], -1, step, *masks.shape[axis + 1 :]).mean(axis + 1)
    return masks


def _forced(said: Tensor, kind: TaskKind, truth: Truth, share: float, noise: torch.Generator | None) -> Tensor:
    """For a share of the labelled cases the true label instead of the predicted one."""
    true = kind.truth(truth.target)
    if true is None:
        return said
    drawn = torch.rand(len(said), generator=noise, device=said.device) < share
    chosen = (drawn & (truth.labelled > 0)).reshape(-1, *[1] * (said.ndim - 1))
    return torch.where(chosen, true.to(said.dtype), said)
