"""A status becomes a record of numbers and known words, or nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from polyward_server.control.said import WEEK_MS, approvals_record, progressed, status_record, timings_record
from polyward_server.told import Span
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


def test_approvals_are_digests_each_once() -> None:
    other = "cd" * 32
    assert approvals_record(pb.Approvals(studies=[other, STUDY, STUDY])) == frozenset({STUDY, other})
    assert approvals_record(pb.Approvals()) == frozenset()
    many = [f"{number:064x}" for number in range(257)]
    assert len(approvals_record(pb.Approvals(studies=many[:256])) or ()) == 256
    for wrong in ([""], ["Jane Doe"], [STUDY.upper()], [STUDY + "\n"], many):
        assert approvals_record(pb.Approvals(studies=wrong)) is None, wrong


def timings() -> pb.Timings:
    spans = [pb.Span(phase=pb.FETCHING, ms=500), pb.Span(phase=pb.TRAINING, start_ms=500, ms=2500)]
    return pb.Timings(study=STUDY, round=1, age_ms=4000, spans=spans)


def test_a_course_is_told_in_the_hubs_time() -> None:
    assert timings_record(timings(), 1004.0) == [Span("fetching", 1000.0, 0.5), Span("training", 1000.5, 2.5)]
    twice = timings()
    twice.spans.append(pb.Span(phase=pb.FETCHING, ms=700))
    assert timings_record(twice, 1004.0) == [Span("fetching", 1000.0, 0.7), Span("training", 1000.5, 2.5)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: setattr(t, "study", ""),
        lambda t: setattr(t, "study", "Jane Doe"),
        lambda t: setattr(t, "age_ms", WEEK_MS + 1),
        lambda t: setattr(t.spans[1], "ms", 3501),  # ends after it was told
        lambda t: setattr(t.spans[0], "phase", 99),
        lambda t: t.spans.extend([pb.Span()] * 31),
    ],
)
def test_a_course_that_cannot_have_been_is_none(spoil: Callable[[pb.Timings], None]) -> None:
    spoiled = timings()
    spoil(spoiled)
    assert timings_record(spoiled, 1004.0) is None
