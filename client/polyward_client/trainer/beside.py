"""The models that a site trains beside the federated one, and which of them it keeps for each task at the end.

`alone` never sees what the hub sends: it is the reference that federation has to beat, and the site's way out. It goes
through the same phases with the same seeds and batches, and what a round gives is what the next one receives, so it is
the model of a federation of this site alone. `ditto` (Li et al., arXiv 2012.04221, algorithm 1) is drawn to the
received state w: v <- v - eta (grad F(v) + lambda (v - w)).

Each is a state of the one `MultiTaskModel`, which they take in turn, so that a device never holds two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from polyward_client.approvals import Approval
from polyward_client.port.interface import Progress
from polyward_client.trainer.dataset import Dataset
from polyward_client.trainer.evaluate import figures, gathered
from polyward_client.trainer.model import MultiTaskModel, load_personal, personal_names, shared_arrays
from polyward_client.trainer.round import Run, finish_round, train_round
from polyward_shared.messages import Kept, Metric, Stage
from polyward_shared.problems import Problem
from polyward_shared.schema import ENCODER, Named, group_of
from polyward_shared.states import Arrays
from polyward_shared.tasks import METRICS, better

STAGES: dict[Kept, tuple[Stage, Stage]] = {  # in a round, and after the final tuning
    "federated": (Stage.TRAINED, Stage.FINAL),
    "alone": (Stage.ALONE, Stage.ALONE_FINAL),
    "ditto": (Stage.DITTO, Stage.DITTO_FINAL),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one model's work came to: its whole state, its figures, and at the end those by which it is judged."""

    state: Arrays
    metrics: list[Metric]
    judged: dict[str, float]


def state_of(model: MultiTaskModel) -> Arrays:
    """Copies of all arrays that can change, buffers included."""
    return {
        name: np.array(value.detach().to("cpu", torch.float32).numpy())
        for name, value in model.state_dict().items()
        if name not in model.idle
    }


def load_state(model: MultiTaskModel, arrays: Named) -> None:
    """Puts a whole state into the model. Raises `Problem` when it is one of another model."""
    personal = personal_names(model, model.study)
    load_personal(model, model.study, {name: array for name, array in arrays.items() if name in personal})
    wanted = {name: v for name, v in model.state_dict().items() if name not in personal | model.idle}
    others = {name: array for name, array in arrays.items() if name not in personal}
    if {name: tuple(v.shape) for name, v in wanted.items()} != {name: v.shape for name, v in others.items()}:
        raise Problem(
            "the vault",
            "holds an encoder that this study's model does not have",
            remedy="restore the vault from a backup, or approve the study again",
        )
    for name, value in wanted.items():
        value.copy_(torch.from_numpy(np.array(others[name])))


def first_state(start: Arrays, run: Run) -> Arrays:
    """What a personal model begins with: the study's first state, of which the site makes `start` itself.

    Where the study names an encoder of the hub's registry, only the hub has that state, and sends it in round 1. A site
    that joins later never sees it, so its own models begin with the encoder of the seed.
    """
    if run.study.encoder.start == "seed" or run.round != 1:
        return start
    return {**start, **encoder_of(run.received or {})}


def work_beside(model: MultiTaskModel, data: Dataset, run: Run, name: Kept, state: Arrays, *, final: bool) -> Turn:
    """One personal model's part of the work that `run` describes for the federated one, from its own `state`.

    Ditto's pull takes the place of FedProx's. The model alone receives its own state, so FedProx holds it to that.
    """
    load_state(model, state)

    def watch(progress: Progress) -> None:
        run.watch(progress.model_copy(update={"phase": f"{name}: {progress.phase}"}))

    in_round, at_the_end = STAGES[name]
    own = replace(
        run,
        pull=run.study.personal.ditto if name == "ditto" else run.pull,
        received=run.received if name == "ditto" else shared_arrays(model, run.study),
        previous=encoder_of(state),
        before=None,
        after=in_round,
        final=at_the_end,
        watch=watch,
        journal=lambda epoch: None,
    )
    trained = (finish_round if final else train_round)(model, data, own)
    return Turn(state_of(model), trained.metrics, judged(model, data, run) if final else {})


def encoder_of(state: Named) -> Arrays:
    """The arrays of the shared encoder in a whole state."""
    return {name: array for name, array in state.items() if group_of(name) == ENCODER}


@torch.inference_mode()
def judged(model: MultiTaskModel, data: Dataset, run: Run) -> dict[str, float]:
    """Each task's primary figure on the site's validation split, from however few cases; an undefined one is absent."""
    was_training = model.training
    model.eval()
    found = {
        task: value
        for task, cases in gathered(model, data, run.study, "val", run.device).items()
        for name, value, count in figures(model, task, cases)
        if name == METRICS[run.study.tasks[task].kind][0] and math.isfinite(value) and count
    }
    model.train(was_training)
    return found


def chosen(
    approval: Approval,
    judgements: Mapping[Kept, Mapping[str, float]],
    keeps: Literal["better", "federated", "alone"],
) -> dict[str, Kept]:
    """The model that the site keeps for each task, by what `judged` found; nothing where there is only one model.

    Of equal models the one that `Approval.models` names first is kept, and without a figure the federated one. The
    site's policy may name one model for all tasks.

    What the word tells: which of some models did better on the site's validation cases. The hub has neither their
    branches nor any array of the personal ones, so it cannot ask the comparison about a case it has in mind; but it is
    made of all cases however few, so with one case the word is that case's. One study has one such word for a task,
    unless the hub asks for the end again from another state, which the sent-ledger shows. A policy that names a model
    makes the word the same whatever the cases are, so that it tells nothing of them.
    """
    if not approval.models:
        return {}
    if keeps != "better":
        return dict.fromkeys(approval.tasks, keeps if keeps in approval.models else "federated")
    found: dict[str, Kept] = {}
    for task in approval.tasks:
        metric = METRICS[approval.study.tasks[task].kind][0]
        values = {name: judgements[name][task] for name in approval.models if task in judgements[name]}
        found[task] = "federated"
        for name in values if "federated" in values else ():
            if better(metric, values[name], values[found[task]]):
                found[task] = name
    return found


def kept_figures(rows: Iterable[Metric], kept: Mapping[str, Kept]) -> list[Metric]:
    """The last figures of each task's kept model, once more under the stage that says so."""
    last = {task: STAGES[model][1] for task, model in kept.items()}
    return [replace(row, stage=Stage.KEPT) for row in rows if row.stage is last.get(row.task)]
