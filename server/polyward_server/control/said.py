"""A gate's status as a record for the ledger: pure functions, which take nothing on trust."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from polyward_server.told import Span
from polyward_shared.problems import Code
from polyward_shared.protos import control_pb2 as pb

MODEL = re.compile(r"[A-Za-z0-9 ._()/\-]{0,60}")
DIGEST = re.compile(r"[0-9a-f]{64}|")
MOST_GPUS = 16
MOST_APPROVALS = 256
MOST_SPANS = 32
WEEK_MS = 7 * 86_400_000


def status_record(status: pb.Status) -> dict[str, Any] | None:
    """The status in JSON's own kinds; None when something in it is no such thing."""
    machine, work = status.machine, status.work
    parts = [machine.cpu, *(gpu.busy for gpu in machine.gpus)]
    sound = (
        all(math.isfinite(part) and 0 <= part <= 1 for part in parts)
        and len(machine.gpus) <= MOST_GPUS
        and all(MODEL.fullmatch(gpu.model) for gpu in machine.gpus)
        and DIGEST.fullmatch(work.study)
        and set(status.refusals) <= set(Code)
        and status.state in pb.State.values()
        and work.phase in pb.Phase.values()
    )
    if not sound:
        return None
    return {
        "state": pb.State.Name(status.state).lower(),
        "work": {
            "study": work.study,
            "round": work.round,
            "phase": pb.Phase.Name(work.phase).lower(),
            "done": work.done,
            "of": work.of,
        },
        "machine": {
            "cpu": round(machine.cpu, 2),
            "memory_used": machine.memory_used,
            "memory_total": machine.memory_total,
            "disk_free": machine.disk_free,
            "gpus": [
                {
                    "model": g.model,
                    "memory_used": g.memory_used,
                    "memory_total": g.memory_total,
                    "busy": round(g.busy, 2),
                }
                for g in machine.gpus
            ],
        },
        "refusals": dict(sorted(status.refusals.items())),
    }


def progressed(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the work at hand has come further since the status before."""
    return bool(now["state"] == "working" and now["work"] != before.get("work"))


def approvals_record(approvals: pb.Approvals) -> frozenset[str] | None:
    """The digests; None when something in it is none, or there are more than a site approves."""
    digests = frozenset(approvals.studies)
    sound = len(approvals.studies) <= MOST_APPROVALS and all(each and DIGEST.fullmatch(each) for each in digests)
    return digests if sound else None


def timings_record(timings: pb.Timings, heard: float) -> list[Span] | None:
    """The phases in the hub's time, if they were heard at `heard` (Unix seconds); None for what cannot have been.

    A phase that began twice in one millisecond counts once.
    """
    age, phases = timings.age_ms, timings.spans
    sound = (
        timings.study
        and DIGEST.fullmatch(timings.study)
        and len(phases) <= MOST_SPANS
        and age <= WEEK_MS
        and all(each.phase in pb.Phase.values() and each.start_ms + each.ms <= age for each in phases)
    )
    if not sound:
        return None
    arrival = heard - age / 1000
    each_once = {(each.phase, each.start_ms): each.ms for each in phases}
    return [
        Span(pb.Phase.Name(phase).lower(), arrival + start / 1000, ms / 1000)
        for (phase, start), ms in sorted(each_once.items(), key=lambda item: item[0][1])
    ]
