"""One step: forward, losses and backward for each of its batches, then every moving part follows its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from polyward_client.trainer.balance.cut import Backward, backward, leaves
from polyward_client.trainer.dataset import Batch
from polyward_client.trainer.encoders.entries import kept_statistics
from polyward_client.trainer.losses import task_losses
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.schedule import PRIVATE
from polyward_client.trainer.terms import Terms
from polyward_client.trainer.topology.flow import Truth
from polyward_shared.schema import BRANCHES, ENCODER

if TYPE_CHECKING:
    from polyward_client.trainer.round import Run

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Dice:
    """The two sources of chance in an epoch: numbers for batches and balancer, and noise on the device for dropout."""

    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    noise: torch.Generator | None = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step or one of its batches found: the loss of each present task, and how gradients stood together."""

    losses: dict[str, Tensor]
    backward: Backward
    moved: bool = False  # whether an optimiser took a step


def train_step(
    model: MultiTaskModel,
    batches: Sequence[Batch],
    run: Run,
    optimisers: dict[str, torch.optim.Optimizer],
    scaler: torch.amp.GradScaler | None = None,
    dice: Dice | None = None,
    terms: Terms | None = None,
) -> Stepped:
    """Forward, losses and backward for each batch, then one step for each moving part that has a gradient.

    The pull of `terms` joins these gradients before they are clipped. A branch without a label in these batches does
    not move: weight decay and momentum would move it without a reason.
    """
    scaler, dice = scaler or torch.amp.GradScaler(run.device.type, enabled=False), dice or Dice()
    terms, share = terms or Terms(), 1 / len(batches)
    stepped = [_backward(model, batch, run, optimisers, scaler, dice, terms, share=share) for batch in batches]
    moved = False
    taught = {task for each in stepped for task in each.losses}
    for part, optimiser in optimisers.items():
        parameters = optimiser.param_groups[0]["params"]
        absent = part.startswith(f"{BRANCHES}.") and part.removeprefix(f"{BRANCHES}.") not in taught
        if not absent and any(parameter.grad is not None for parameter in parameters):
            scaler.unscale_(optimiser)
            if part == ENCODER and terms.squares is not None:
                terms.squares.add()
            if terms.pull is not None:
                terms.pull.add(part)
            nn.utils.clip_grad_norm_(parameters, run.study.training.gradient_clip)
            scaler.step(optimiser)
            moved = True
        optimiser.zero_grad(set_to_none=True)
    if moved:  # all tasks of these batches may rest, and a scaler that saw no gradient cannot update
        scaler.update()
    if model.balancer.wants_after and taught:
        with torch.no_grad(), kept_statistics(model.batch_norms):
            model.balancer.after(_losses(model, model.pyramid(batches[-1].images), batches[-1], run, dice))
    return replace(_joined(stepped), moved=moved)


def _joined(stepped: Sequence[Stepped]) -> Stepped:
    """The mean loss of each task over the batches that have it; weights and gradients of the last of them."""
    found = [each for each in stepped if each.losses] or list(stepped)
    several: dict[str, list[Tensor]] = {}
    for each in found:
        for task, loss in each.losses.items():
            several.setdefault(task, []).append(loss)
    losses = {task: torch.stack(some).mean() if len(some) > 1 else some[0] for task, some in several.items()}
    return Stepped(losses, found[-1].backward)


def _backward(
    model: MultiTaskModel,
    batch: Batch,
    run: Run,
    optimisers: dict[str, torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    dice: Dice,
    terms: Terms,
    *,
    share: float,
) -> Stepped:
    """The cut: branches on leaves of the pyramid, each task's gradient there, one pass through the encoder."""
    beside = None
    with _autocast(run):
        pyramid = model.pyramid(batch.images)
        if terms.contrast is not None and ENCODER in optimisers and pyramid[-1].requires_grad:
            beside = terms.contrast.gradient(pyramid[-1], batch.images)
    cut = leaves(pyramid)
    losses = _losses(model, cut, batch, run, dice)
    # from the optimisers: to walk through the model for them takes as long as the balancer
    moving = {part: optimiser.param_groups[0]["params"] for part, optimiser in optimisers.items()}
    shared = [parameter for encoder in (ENCODER, PRIVATE) for parameter in moving.pop(encoder, [])]
    others = [parameter for own in moving.values() for parameter in own]
    graph = model.interaction.graph
    scale = float(scaler.scale(torch.ones((), device=run.device))) if scaler.is_enabled() else 1.0
    found = backward(
        losses,
        pyramid,
        cut,
        shared,
        others,
        model.balancer,
        dice.generator,
        space=run.study.balancer.space,
        scale=scale * share,
        apart=not graph.into and not graph.interactions,
        balanced=ENCODER in optimisers,
        beside=beside,
    )
    return Stepped({task: loss.detach() for task, loss in losses.items()}, found)


def _losses(model: MultiTaskModel, pyramid: list[Tensor], batch: Batch, run: Run, dice: Dice) -> dict[str, Tensor]:
    if not batch.counts:
        return {}
    truths = {task: Truth(target, batch.labelled[task]) for task, target in batch.targets.items()}
    with _autocast(run):
        outputs = model.answer(
            pyramid,
            tuple(batch.images.shape[2:]),
            tuple(batch.counts),
            side=batch.side,
            truths=truths,
            noise=dice.noise,
        )
    return task_losses(model, outputs, batch)


def _autocast(run: Run) -> AbstractContextManager[object]:
    if run.device.type != "cuda" or run.precision not in PRECISIONS:
        return nullcontext()
    return torch.autocast("cuda", PRECISIONS[run.precision])
