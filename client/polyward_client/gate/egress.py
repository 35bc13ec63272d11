"""The one door: what a trainer made is checked against the site's own copy of the study before it may leave.

Pure functions over what the trainer handed over. They trust nothing in it: a compromised trainer can send the encoder
it likes inside the norm bound, and figures under fixed names, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from polyward_client.approvals import Approval
from polyward_shared.messages import Metric, is_interval
from polyward_shared.norms import SLICE, distance
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import Flat, Named, Schema
from polyward_shared.tasks import METRICS


def check_state(schema: Schema, arrays: Named) -> Flat:
    """The arrays as one vector [n]. Raises `Refused` unless they are exactly the schema's and all finite."""
    flat = schema.pack(arrays)
    for start in range(0, flat.size, SLICE):
        if not np.isfinite(flat[start : start + SLICE]).all():
            raise Refused(Code.EGRESS_NOT_FINITE, "a value is not a finite number")
    return flat


def check_norm(flat: Flat, base: Flat, limit: float) -> float:
    """The L2 norm of the change from `base` [n] to `flat` [n]. Raises `Refused` above `limit`."""
    norm = distance(flat, base)
    if not norm <= limit:
        raise Refused(Code.EGRESS_NORM, f"the update's norm is {norm:.6g}, the study allows {limit:g}")
    return norm


def check_metrics(approval: Approval, rows: Iterable[Metric], minimum: int) -> tuple[tuple[Metric, ...], int]:
    """The figures that may leave, and how many stay because they rest on fewer than `minimum` cases.

    Raises `Refused` for a name, task, split, value or interval that the study does not foresee.
    """
    allowed: dict[tuple[str, str, str, str], Metric] = {}
    suppressed = 0
    for row in rows:
        key = (row.task, row.split, row.stage, row.name)
        if (
            row.task not in approval.tasks
            or row.split not in approval.study.evaluation.splits
            or row.name not in METRICS[approval.study.tasks[row.task].kind]
            or key in allowed
            or not math.isfinite(row.value)
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
    return dict(counts)
