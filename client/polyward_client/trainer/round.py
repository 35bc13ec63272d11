"""One round at a site: measure, train phase by phase, measure. The loop that everything else exists for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from polyward_client.port.interface import Progress, Watcher
from polyward_client.trainer.balance import combined
from polyward_client.trainer.dataset import Batch, Dataset, augmented, epoch_batches, target_statistics
from polyward_client.trainer.evaluate import evaluate
from polyward_client.trainer.losses import task_losses
from polyward_client.trainer.model import MultiTaskModel, parts
from polyward_client.trainer.schedule import Phase, final_phases, round_phases
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import BRANCHES
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study, Training
from polyward_shared.tasks import Regression

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a round needs to know besides model and data."""

    study: Study
    site: str
    round: int
    device: torch.device
    precision: str = "float32"
    watch: Watcher = lambda progress: None
    cancelled: Callable[[], bool] = lambda: False


def train_round(model: MultiTaskModel, data: Dataset, run: Run) -> list[Metric]:
    """Trains `model` in place by the study's schedule; figures before and after, in rounds where they are due."""
    rows: list[Metric] = []
    due = run.round % run.study.evaluation.every == 0 or run.round >= run.study.rounds
    if due:
        rows += _measured(model, data, run, Stage.RECEIVED)
    for phase in round_phases(run.study.training):
        train_phase(model, data, run, phase)
    if due:
        rows += _measured(model, data, run, Stage.TRAINED)
    return rows


def finish_round(model: MultiTaskModel, data: Dataset, run: Run) -> list[Metric]:
    """The final tuning of the branches, and its figures."""
    for phase in final_phases(run.study.training):
        train_phase(model, data, run, phase)
    return _measured(model, data, run, Stage.FINAL)


def train_phase(model: MultiTaskModel, data: Dataset, run: Run, phase: Phase) -> None:
    """The epochs of one phase, with optimisers of its own; parts without a rate do not change by a bit."""
    training = run.study.training
    optimisers = optimisers_of(model, phase, run)
    freeze(model, moving=set(optimisers))
    scaler = torch.amp.GradScaler(run.device.type, enabled=run.device.type == "cuda" and run.precision == "float16")
    for epoch in range(1, phase.epochs + 1):
        seed = seed_for(run.study.seed, "batches", run.site, run.round, phase.name, epoch)
        generator = np.random.default_rng(seed)
        total, steps = torch.zeros((), device=run.device), 0
        for places in epoch_batches(data.cases("train"), training.batch, generator):
            if run.cancelled():
                raise Refused(Code.CANCELLED, f"in phase {phase.name}, epoch {epoch}")
            batch = data.batch(places, run.device)
            if training.augmentation == "light":
                batch = augmented(batch, generator)
            total += train_step(model, batch, run, optimisers, scaler)
            steps += 1
        mean = float(total) / max(steps, 1)  # the one wait for the device in an epoch
        if not np.isfinite(mean):
            raise Refused(Code.TRAINING_FAILED, f"the loss is {mean} in phase {phase.name}, epoch {epoch}")
        run.watch(Progress(phase=phase.name, epoch=epoch, epochs=phase.epochs, loss=mean))
    freeze(model, moving=set(parts(model)))


def train_step(
    model: MultiTaskModel,
    batch: Batch,
    run: Run,
    optimisers: dict[str, torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
) -> torch.Tensor:
    """One batch: forward, losses, backward, a step for each moving part that has a gradient. Returns the loss."""
    with _autocast(run):
        outputs = model(batch.images, tuple(batch.counts))
    loss = combined(task_losses(model, outputs, batch, run.study), run.study)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    for part, optimiser in optimisers.items():
        if part.startswith(f"{BRANCHES}.") and part.removeprefix(f"{BRANCHES}.") not in batch.counts:
            continue  # weight decay and momentum would move it without a label
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], run.study.training.gradient_clip)
        scaler.step(optimiser)
        optimiser.zero_grad(set_to_none=True)
    scaler.update()
    return loss.detach()


def optimisers_of(model: MultiTaskModel, phase: Phase, run: Run) -> dict[str, torch.optim.Optimizer]:
    """A fresh optimiser for each part that moves in the phase."""
    return {
        part: _optimiser(parameters, rate, run.study.training)
        for part, parameters in parts(model).items()
        if (rate := phase.rate(part)) is not None
    }


def freeze(model: MultiTaskModel, *, moving: set[str]) -> None:
    """Parts outside `moving` need no gradient and are in evaluation mode; the others the reverse."""
    for part, parameters in parts(model).items():
        for parameter in parameters:
            parameter.requires_grad_(part in moving)
        model.get_submodule(part).train(part in moving)


def set_target_statistics(model: MultiTaskModel, study: Study, data: Dataset) -> None:
    """Standardises the regression targets by this site's training labels."""
    for name in model.tasks:
        if isinstance(study.tasks[name], Regression):
            model.scale(name).copy_(torch.tensor(target_statistics(data, name)))


def _measured(model: MultiTaskModel, data: Dataset, run: Run, stage: Stage) -> list[Metric]:
    run.watch(Progress(phase=f"measuring ({stage})"))
    return evaluate(model, data, run.study, run.device, stage=stage)


def _autocast(run: Run) -> AbstractContextManager[object]:
    if run.device.type != "cuda" or run.precision not in PRECISIONS:
        return nullcontext()
    return torch.autocast("cuda", PRECISIONS[run.precision])


def _optimiser(parameters: list[nn.Parameter], rate: float, training: Training) -> torch.optim.Optimizer:
    match training.optimiser:
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=training.weight_decay, fused=True)
        case "sgd":
            return torch.optim.SGD(
                parameters, rate, momentum=training.momentum, weight_decay=training.weight_decay, fused=True
            )
