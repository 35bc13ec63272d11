"""One round at a site: measure, train phase by phase, measure. The loop that everything else exists for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from polyward_client.port.interface import Progress, Watcher
from polyward_client.trainer.dataset import (
    Batch,
    Dataset,
    Indices,
    endless_batches,
    epoch_batches,
    varied,
    windows,
)
from polyward_client.trainer.evaluate import evaluate
from polyward_client.trainer.journal import Epoch, Tally
from polyward_client.trainer.model import MultiTaskModel, parts, shared_parameters
from polyward_client.trainer.optimise import build_optimiser
from polyward_client.trainer.precision import Squares
from polyward_client.trainer.schedule import Phase, final_phases, join_phases, round_phases
from polyward_client.trainer.step import Dice, train_step
from polyward_client.trainer.terms import Terms, contrast_of, pull_of
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import ENCODER, PRECISION, group_of
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study


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
    pull: float = 0.0  # how strongly the parameters are drawn to `received`: FedProx, Ditto
    received: Mapping[str, NDArray[np.float32]] | None = None  # shared arrays
    previous: Mapping[str, NDArray[np.float32]] | None = None  # the site's own encoder after its last round: MOON
    joins: bool = False  # the site's first round is later than round 1: its branches catch up first
    before: Stage | None = Stage.RECEIVED  # the names of the figures; None: there are none before training
    after: Stage = Stage.TRAINED
    final: Stage = Stage.FINAL


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a round or of the final tuning, besides the model."""

    metrics: list[Metric]
    steps: int  # of the optimisers
    precision: dict[str, NDArray[np.float32]]  # by shared name, if the study's rule asks for it


def train_round(model: MultiTaskModel, data: Dataset, run: Run) -> Trained:
    """Trains `model` in place by the study's schedule; figures before and after, in rounds where they are due.

    The model holds what was received.
    """
    rows: list[Metric] = []
    study = run.study
    terms = replace(terms_of(model, run), squares=_squares(model, run))
    due = run.round % study.evaluation.every == 0 or run.round >= study.rounds
    if due and run.before is not None:
        rows += _measured(model, data, run, run.before)
    awake = [task for task in model.tasks if not resting(model, task)]
    phases = round_phases(study.training, run.round, study.rounds)
    if run.joins:
        phases = (*join_phases(study.training), *phases)
    steps = sum(train_phase(model, data, run, phase, awake, terms) for phase in phases)
    if due:
        after = _measured(model, data, run, run.after)
        note_progress(model, after, awake)
        rows += after
    return Trained(rows, steps, terms.squares.arrays() if terms.squares is not None else {})


def finish_round(model: MultiTaskModel, data: Dataset, run: Run) -> Trained:
    """The final tuning, of branches that rested too, and its figures."""
    terms = terms_of(model, run)
    steps = sum(train_phase(model, data, run, phase, terms=terms) for phase in final_phases(run.study.training))
    return Trained(_measured(model, data, run, run.final), steps, {})


def terms_of(model: MultiTaskModel, run: Run) -> Terms:
    """What the study adds to the losses, once for a round."""
    pull = pull_of(model, run.pull, run.received)
    return Terms(pull, contrast_of(model, run.study.training, run.received, run.previous))


def _squares(model: MultiTaskModel, run: Run) -> Squares | None:
    if run.study.aggregation.rule != "precision":
        return None
    shared = shared_parameters(model, run.study).items()
    return Squares({f"{PRECISION}.{name}": parameter for name, parameter in shared if group_of(name) == ENCODER})


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
    model: MultiTaskModel,
    data: Dataset,
    run: Run,
    phase: Phase,
    tasks: Sequence[str] | None = None,
    terms: Terms | None = None,
) -> int:
    """The epochs of one phase, with optimisers of its own; parts without a rate do not change by a bit.

    Returns how many steps moved something.
    """
    optimisers = optimisers_of(model, phase, run)
    freeze(model, moving=set(optimisers))
    scaler = torch.amp.GradScaler(run.device.type, enabled=run.device.type == "cuda" and run.precision == "float16")
    epoch_of, steps = _epochs(data, run, phase), 0
    run.watch(Progress(phase=phase.name, epochs=phase.epochs))  # the first epoch belongs to this phase already
    for epoch in range(1, phase.epochs + 1):
        seed = seed_for(run.study.seed, "batches", run.site, run.round, phase.name, epoch)
        dice = Dice(np.random.default_rng(seed), torch.Generator(run.device).manual_seed(seed))
        tally = Tally()
        for batches in _together(epoch_of(dice.generator), run.study.training.accumulate):
            prepared = []
            for places in batches:
                if run.cancelled():
                    raise Refused(Code.CANCELLED, f"in phase {phase.name}, epoch {epoch}")
                prepared.append(_prepared(model, data, run, places, dice, tasks))
            stepped = train_step(model, prepared, run, optimisers, scaler, dice, terms)
            tally.add(stepped)
            steps += stepped.moved
        model.balancer.end_epoch()
        found = tally.epoch(run.round, phase.name, epoch, _references(model))  # the one wait for the device
        if not all(np.isfinite(loss) for loss in found.losses.values()):
            raise Refused(Code.TRAINING_FAILED, f"the losses are {found.losses} in phase {phase.name}, epoch {epoch}")
        run.journal(found)
        run.watch(Progress(phase=phase.name, epoch=epoch, epochs=phase.epochs, loss=found.mean_loss))
    freeze(model, moving=set(parts(model)))
    return steps


def _prepared(
    model: MultiTaskModel, data: Dataset, run: Run, places: Indices, dice: Dice, tasks: Sequence[str] | None
) -> Batch:
    """The batch of these images as the study wants it, without the labels of resting tasks."""
    training, image = run.study.training, run.study.image
    batch = _only(data.batch(places, run.device), tasks)
    if image.window is not None:
        batch = windows(batch, model.kinds, image.window, dice.generator)
    if training.augmentation != "none":
        batch = varied(batch, model.kinds, training.augmentation, dice.generator)
    return batch


def _together(batches: Iterator[Indices], size: int) -> Iterator[list[Indices]]:
    """So many batches at a time; the last may be fewer."""
    while some := list(islice(batches, size)):
        yield some


def _epochs(data: Dataset, run: Run, phase: Phase) -> Callable[[np.random.Generator], Iterator[Indices]]:
    """The batches of the next epoch: every image once, in an order drawn from the epoch's generator, or, where the
    study gives an epoch a number of steps, as many batches as they take, on from where the epoch before stopped."""
    training, places = run.study.training, data.cases("train")
    groups = next(iter(data.groups.values()), None)
    if not training.steps:
        return lambda generator: epoch_batches(places, training.batch, generator, groups)
    seed = seed_for(run.study.seed, "passes", run.site, run.round, phase.name)
    passes = endless_batches(places, training.batch, np.random.default_rng(seed), groups)
    return lambda generator: islice(passes, training.steps * training.accumulate)


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
