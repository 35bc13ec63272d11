"""One round at a site: measure, train phase by phase, measure. The loop that everything else exists for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from polyward_client.port.interface import Progress, Watcher
from polyward_client.trainer.balance.cut import Backward, backward, leaves
from polyward_client.trainer.dataset import (
    Batch,
    Dataset,
    epoch_batches,
    varied,
    windows,
)
from polyward_client.trainer.evaluate import evaluate
from polyward_client.trainer.journal import Epoch, Tally
from polyward_client.trainer.losses import task_losses
from polyward_client.trainer.model import MultiTaskModel, parts
from polyward_client.trainer.optimise import build_optimiser
from polyward_client.trainer.schedule import Phase, final_phases, round_phases
from polyward_client.trainer.topology.flow import Truth
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import BRANCHES, ENCODER
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a round needs to know besides model and data."""

    study: Study
    site: str
    round: int
    device: torch.device
    precision: str = "float32"
    minimum: int = 1  # patients and cases behind a figure; the site's policy
    watch: Watcher = lambda progress: None
    journal: Callable[[Epoch], None] = lambda epoch: None
    cancelled: Callable[[], bool] = lambda: False


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


def train_round(model: MultiTaskModel, data: Dataset, run: Run) -> list[Metric]:
    """Trains `model` in place by the study's schedule; figures before and after, in rounds where they are due."""
    rows: list[Metric] = []
    study = run.study
    due = run.round % study.evaluation.every == 0 or run.round >= study.rounds
    if due:
        rows += _measured(model, data, run, Stage.RECEIVED)
    awake = [task for task in model.tasks if not resting(model, task)]
    for phase in round_phases(study.training, run.round, study.rounds):
        train_phase(model, data, run, phase, tasks=awake)
    if due:
        after = _measured(model, data, run, Stage.TRAINED)
        note_progress(model, after, awake)
        rows += after
    return rows


def finish_round(model: MultiTaskModel, data: Dataset, run: Run) -> list[Metric]:
    """The final tuning of the branches, those that rested included, and its figures."""
    for phase in final_phases(run.study.training):
        train_phase(model, data, run, phase)
    return _measured(model, data, run, Stage.FINAL)


def resting(model: MultiTaskModel, task: str) -> bool:
    """Whether a branch has not become better for as many measured rounds as the study has patience."""
    patience = model.study.training.patience
    return bool(patience) and int(model.progress(task)[1]) >= patience


def note_progress(model: MultiTaskModel, rows: Sequence[Metric], tasks: Sequence[str]) -> None:
    """Counts, for each of these tasks, the measured rounds since its best loss on the validation split."""
    for row in rows:
        if row.split == "val" and row.name == "loss" and row.task in tasks:
            value = torch.tensor(row.value, dtype=torch.float32).item()  # as the best is kept: equal must not be better
            best, stale = model.progress(row.task).tolist()
            now = (value, 0.0) if value < best else (best, stale + 1)
            model.progress(row.task).copy_(torch.tensor(now))


def train_phase(
    model: MultiTaskModel, data: Dataset, run: Run, phase: Phase, tasks: Sequence[str] | None = None
) -> None:
    """The epochs of one phase, with optimisers of its own; parts without a rate do not change by a bit."""
    training, image = run.study.training, run.study.image
    optimisers = optimisers_of(model, phase, run)
    freeze(model, moving=set(optimisers))
    scaler = torch.amp.GradScaler(run.device.type, enabled=run.device.type == "cuda" and run.precision == "float16")
    for epoch in range(1, phase.epochs + 1):
        seed = seed_for(run.study.seed, "batches", run.site, run.round, phase.name, epoch)
        dice = Dice(np.random.default_rng(seed), torch.Generator(run.device).manual_seed(seed))
        tally, waiting = Tally(), list[Batch]()
        groups = next(iter(data.groups.values()), None)
        for places in epoch_batches(data.cases("train"), training.batch, dice.generator, groups):
            if run.cancelled():
                raise Refused(Code.CANCELLED, f"in phase {phase.name}, epoch {epoch}")
            batch = _only(data.batch(places, run.device), tasks)
            if image.window is not None:
                batch = windows(batch, model.kinds, image.window, dice.generator)
            if training.augmentation != "none":
                batch = varied(batch, model.kinds, training.augmentation, dice.generator)
            waiting.append(batch)
            if len(waiting) == training.accumulate:
                tally.add(train_step(model, waiting, run, optimisers, scaler, dice))
                waiting = []
        if waiting:
            tally.add(train_step(model, waiting, run, optimisers, scaler, dice))
        model.balancer.end_epoch()
        found = tally.epoch(run.round, phase.name, epoch, _references(model))  # the one wait for the device
        if not all(np.isfinite(loss) for loss in found.losses.values()):
            raise Refused(Code.TRAINING_FAILED, f"the losses are {found.losses} in phase {phase.name}, epoch {epoch}")
        run.journal(found)
        run.watch(Progress(phase=phase.name, epoch=epoch, epochs=phase.epochs, loss=found.mean_loss))
    freeze(model, moving=set(parts(model)))


def train_step(
    model: MultiTaskModel,
    batches: Sequence[Batch],
    run: Run,
    optimisers: dict[str, torch.optim.Optimizer],
    scaler: torch.amp.GradScaler | None = None,
    dice: Dice | None = None,
) -> Stepped:
    """Forward, losses and backward for each batch, then one step for each moving part that has a gradient.

    A branch without a label in these batches does not move: weight decay and momentum would move it without a reason.
    """
    scaler, dice = scaler or torch.amp.GradScaler(run.device.type, enabled=False), dice or Dice()
    stepped = [_backward(model, batch, run, optimisers, scaler, dice, share=1 / len(batches)) for batch in batches]
    moved = False
    taught = {task for each in stepped for task in each.losses}
    for part, optimiser in optimisers.items():
        parameters = optimiser.param_groups[0]["params"]
        absent = part.startswith(f"{BRANCHES}.") and part.removeprefix(f"{BRANCHES}.") not in taught
        if not absent and any(parameter.grad is not None for parameter in parameters):
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(parameters, run.study.training.gradient_clip)
            scaler.step(optimiser)
            moved = True
        optimiser.zero_grad(set_to_none=True)
    if moved:  # all tasks of these batches may rest, and a scaler that saw no gradient cannot update
        scaler.update()
    if model.balancer.wants_after and taught:
        with torch.no_grad():
            model.balancer.after(_losses(model, model.encoder(batches[-1].images), batches[-1], run, dice))
    return _joined(stepped)


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
    *,
    share: float,
) -> Stepped:
    """The cut: branches on leaves of the pyramid, each task's gradient there, one pass through the encoder."""
    with _autocast(run):
        pyramid = model.encoder(batch.images)
    cut = leaves(pyramid)
    losses = _losses(model, cut, batch, run, dice)
    # from the optimisers: to walk through the model for them takes as long as the balancer
    moving = {part: optimiser.param_groups[0]["params"] for part, optimiser in optimisers.items()}
    shared = moving.pop(ENCODER, [])
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


def _only(batch: Batch, tasks: Sequence[str] | None) -> Batch:
    """The batch without the labels of resting tasks."""
    if tasks is None or all(task in tasks for task in batch.counts):
        return batch
    return replace(batch, counts={task: count for task, count in batch.counts.items() if task in tasks})


def optimisers_of(model: MultiTaskModel, phase: Phase, run: Run) -> dict[str, torch.optim.Optimizer]:
    """A fresh optimiser for each part that moves in the phase."""
    return {
        part: build_optimiser(parameters, rate, run.study.training)
        for part, parameters in parts(model).items()
        if (rate := phase.rate(part)) is not None
    }


def freeze(model: MultiTaskModel, *, moving: set[str]) -> None:
    """Parts outside `moving` need no gradient and are in evaluation mode; the others the reverse."""
    for part, parameters in parts(model).items():
        for parameter in parameters:
            parameter.requires_grad_(part in moving)
        model.get_submodule(part).train(part in moving)


def fit_statistics(model: MultiTaskModel, data: Dataset) -> None:
    """Lets heads and side inputs know this site's training cases, such as the mean and spread of a number."""
    for name, kind in model.kinds.items():
        if kind.level == "image":
            kind.fit(model.head(name), data.training_targets(name))
    if data.side is not None:
        model.input_adapter.fit(data.side[torch.from_numpy(data.cases("train"))])


def _references(model: MultiTaskModel) -> dict[str, float]:
    return dict(zip(model.tasks, model.balancer.get_buffer("reference").tolist(), strict=True))


def _measured(model: MultiTaskModel, data: Dataset, run: Run, stage: Stage) -> list[Metric]:
    run.watch(Progress(phase=f"measuring ({stage})"))
    return evaluate(model, data, run.study, run.device, stage=stage, minimum=run.minimum)


def _autocast(run: Run) -> AbstractContextManager[object]:
    if run.device.type != "cuda" or run.precision not in PRECISIONS:
        return nullcontext()
    return torch.autocast("cuda", PRECISIONS[run.precision])
