"""The one door: what a trainer made is checked against the site's own copy of the study before it may leave.

Pure functions over what the trainer handed over. They trust nothing in it: a compromised trainer can send the encoder
it likes inside the norm bound, figures under fixed names, and one word for each task at the end, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from polyward_client.approvals import Approval
from polyward_client.port.interface import Progress
from polyward_shared.messages import Kept, Kind, Metric, Stage, is_interval, stages_of
from polyward_shared.norms import SLICE, distance
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import PRECISION, Flat, Named, Schema
from polyward_shared.tasks import METRICS

PHASES = frozenset(
    ("loading", "join", "branches", "encoder", "together", "final", *(f"measuring ({stage})" for stage in Stage))
)
BESIDE = ("alone: ", "ditto: ")
MOST = 2**40  # of anything that is counted: the wire carries no more
PRECISION_MEAN = 1e-3  # how far the mean of a precision may lie from 1; float32 rounds by 1e-7


def check_state(schema: Schema, arrays: Named) -> Flat:
    """The arrays as one vector [n]. Raises `Refused` unless they are exactly the schema's and all finite."""
    flat = schema.pack(arrays)
    for start in range(0, flat.size, SLICE):
        if not np.isfinite(flat[start : start + SLICE]).all():
            raise Refused(Code.EGRESS_NOT_FINITE, "a value is not a finite number")
    return flat


def check_norm(schema: Schema, flat: Flat, base: Flat, limit: float) -> float:
    """The L2 norm of the change from `base` [n] to `flat` [n] in all groups but precision. Raises `Refused` above."""
    moved = [where for group, where in schema.groups.items() if group != PRECISION]
    norm = math.hypot(*(distance(flat[where], base[where]) for where in moved))
    if not norm <= limit:
        raise Refused(Code.EGRESS_NORM, f"the update's norm is {norm:.6g}, the study allows {limit:g}")
    return norm


def check_precision(schema: Schema, flat: Flat) -> None:
    """Raises `Refused` unless the precision in `flat` [n], if there is one, is 0 or more everywhere and 1 in the mean.

    It says which weights a site is surer of than of others, never how sure the site is on the whole: a site that may
    say neither has no say beyond its weight. So no value exceeds the number of values, and the norm's bound, which is
    for changes, would mean nothing here: a precision starts anew in every round.
    """
    where = schema.groups.get(PRECISION)
    if where is None:
        return
    values = flat[where]
    mean = float(values.mean(dtype=np.float64))
    if values.min() < 0 or not abs(mean - 1) <= PRECISION_MEAN:
        raise Refused(Code.EGRESS_NORM, f"the precision has the least value {values.min():.6g} and the mean {mean:.6g}")


def check_metrics(
    approval: Approval, kind: Kind, rows: Iterable[Metric], minimum: int
) -> tuple[tuple[Metric, ...], int]:
    """The figures that may leave as answer to such an order, and how many stay: those from fewer than `minimum` cases.

    Raises `Refused` for a name, task, split, stage, value or interval that the study does not foresee.
    """
    stages = stages_of(kind, approval.study.personal)
    allowed: dict[tuple[str, str, str, str], Metric] = {}
    suppressed = 0
    for row in rows:
        key = (row.task, row.split, row.stage, row.name)
        if (
            row.task not in approval.tasks
            or row.split not in approval.study.evaluation.splits
            or row.stage not in stages
            or row.name not in METRICS[approval.study.tasks[row.task].kind]
            or key in allowed
            or not math.isfinite(row.value)
            or not row.count < MOST
            or not is_interval(row.low, row.high)
            or (row.low is not None and not approval.study.evaluation.resamples)
        ):
            raise Refused(Code.EGRESS_METRIC, f"{'/'.join(key)} = {row.value!r} [{row.low!r}, {row.high!r}]")
        if row.count < minimum:
            suppressed += 1
        else:
            allowed[key] = row
    return tuple(allowed.values()), suppressed


def check_counts(approval: Approval, counts: Mapping[str, int], samples: int, minimum: int) -> dict[str, int]:
    """The numbers of training labels. Raises `Refused` for other tasks, or for a number below `minimum`."""
    if set(counts) - set(approval.tasks):
        raise Refused(Code.EGRESS_METRIC, "counts of tasks that this site does not train")
    small = [task for task, count in counts.items() if count < minimum]
    if small or samples < minimum:
        raise Refused(Code.POLICY, f"fewer than {minimum} labelled training images: {small or 'all tasks'}")
    if not max(samples, *counts.values()) < MOST:
        raise Refused(Code.EGRESS_METRIC, "more training images than there can be")
    return dict(counts)


def check_steps(approval: Approval, kind: Kind, steps: int, samples: int) -> int:
    """The steps of a round's optimiser. Raises `Refused` for more than the study's schedule can make of the samples.

    A step takes at least one image, and the numbers of epochs and of steps in one are the study's.
    """
    training = approval.study.training
    passes = training.epochs + training.branch_epochs + training.join_epochs
    most = passes * max(samples, training.steps) if kind is Kind.TRAIN else 0
    if type(steps) is not int or not 0 <= steps <= most:
        raise Refused(Code.EGRESS_METRIC, f"{steps!r} steps of at most {most}")
    return steps


def check_kept(approval: Approval, kind: Kind, kept: Mapping[str, Kept]) -> dict[str, Kept]:
    """Which model the site keeps for each of its tasks: one word each, at the end. Raises `Refused` for any other."""
    models = approval.models if kind is Kind.FINISH else ()
    if set(kept) - set(approval.tasks) or any(model not in models for model in kept.values()):
        raise Refused(Code.EGRESS_METRIC, f"kept models {dict(kept)!r:.200}")
    return dict(kept)


def check_progress(progress: Progress) -> Progress:
    """The progress as it may be shown: one of the known phases, that a model is trained beside, or else `working`."""
    if progress.phase in PHASES:
        return progress
    beside = progress.phase.startswith(BESIDE)
    return progress.model_copy(update={"phase": "beside" if beside else "working"})
