"""A status becomes a record of numbers and known words, or nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from polyward_server.control.said import progressed, status_record
from polyward_shared.protos import control_pb2 as pb

STUDY = "ab" * 32


def status() -> pb.Status:
    return pb.Status(
        state=pb.WORKING,
        work=pb.Work(study=STUDY, round=2, phase=pb.TRAINING, done=3, of=8),
        machine=pb.Machine(
            cpu=0.5, memory_used=1, memory_total=2, disk_free=3, gpus=[pb.Gpu(model="NVIDIA A100 (80GB)")]
        ),
        refusals={"policy": 2},
    )


def test_a_sound_status_is_kept_as_it_is() -> None:
    record = status_record(status())
    assert record is not None
    assert record["state"] == "working"
    assert record["work"] == {"study": STUDY, "round": 2, "phase": "training", "done": 3, "of": 8}
    assert record["machine"]["gpus"][0]["model"] == "NVIDIA A100 (80GB)"
    assert record["refusals"] == {"policy": 2}
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: setattr(s.machine, "cpu", math.nan),
        lambda s: setattr(s.machine, "cpu", 1.5),
        lambda s: setattr(s.machine.gpus[0], "busy", -1.0),
        lambda s: setattr(s.machine.gpus[0], "model", "Jane\nDoe"),
        lambda s: s.machine.gpus.extend([pb.Gpu()] * 16),
        lambda s: setattr(s.work, "study", "../x"),
        lambda s: setattr(s, "state", 99),
        lambda s: setattr(s.work, "phase", 99),
        lambda s: s.refusals.update({"Jane Doe": 1}),
    ],
)
def test_a_status_with_anything_else_in_it_is_none(spoil: Callable[[pb.Status], None]) -> None:
    spoiled = status()
    spoil(spoiled)
    assert status_record(spoiled) is None


def test_work_has_come_further_when_it_says_something_new() -> None:
    one, two, idle = status(), status(), status()
    two.work.done = 4
    idle.state = pb.IDLE
    first, second, third = (status_record(each) or {} for each in (one, two, idle))
    assert progressed({}, first)
    assert not progressed(first, first)
    assert progressed(first, second)
    assert not progressed(first, third)
