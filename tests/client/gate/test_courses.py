"""The course of a round: what came when, by a clock that the test turns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from flwr.app import Message

from polyward_client.gate.__main__ import Orders
from polyward_client.gate.control import ControlLink
from polyward_client.gate.courses import MOST, MOST_SPANS, OLDEST, RECENT, Courses
from polyward_client.gate.gate import Gate
from polyward_client.port.interface import Progress
from polyward_shared.protos import control_pb2 as pb
from tests.client.gate.test_gate import JOIN, TRAIN, Bench
from tests.support.messages import order_message

STUDY, OTHER = "a" * 64, "b" * 64


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def courses(clock: Clock) -> Courses:
    return Courses(clock)


def told(courses: Courses) -> list[tuple[str, int, int, list[tuple[int, int, int]]]]:
    return [
        (t.study, t.round, t.age_ms, [(span.phase, span.start_ms, span.ms) for span in t.spans])
        for _, _, t in courses.news({})
    ]


def test_each_phase_has_its_begin_and_its_length(courses: Courses, clock: Clock) -> None:
    courses.arrives()
    clock.now += 2
    courses.begins(STUDY, 3)
    assert courses.work() == pb.Work(study=STUDY, round=3, phase=pb.FETCHING)
    for phase, seconds in (("loading", 1), ("measuring (received)", 4), ("encoder", 8), ("checking", 0.25)):
        courses.progress(Progress(phase=phase, epoch=1, epochs=2, loss=0.5))
        courses.progress(Progress(phase=phase, epoch=2, epochs=2))  # the same phase, further
        assert (courses.work().done, courses.work().of) == (2, 2)
        clock.now += seconds
    courses.sends()
    clock.now += 16
    courses.ends()
    assert courses.work() == pb.Work()
    clock.now += 32
    [(study, number, age, spans)] = told(courses)
    assert (study, number) == (STUDY, 3)
    assert age == pytest.approx(63_250, abs=1)
    assert spans == [
        (pb.FETCHING, 0, 2000),
        (pb.LOADING, 2000, 1000),
        (pb.MEASURING, 3000, 4000),
        (pb.TRAINING, 7000, 8000),
        (pb.CHECKING, 15000, 250),
        (pb.SENDING, 15250, 16000),
    ]


def test_only_what_is_new_is_told(courses: Courses, clock: Clock) -> None:
    courses.begins(STUDY, 1)
    assert list(courses.news({})) == []  # nothing is over yet
    courses.sends()
    [(number, ended, _)] = courses.news({})
    assert list(courses.news({number: ended})) == []
    courses.ends()
    assert [(each, over) for each, over, _ in courses.news({number: ended})] == [(number, ended + 1)]


def test_an_order_about_the_same_round_continues_its_course_and_another_begins_one(
    courses: Courses, clock: Clock
) -> None:
    for study, number in ((STUDY, 1), (STUDY, 1), (STUDY, 2), (OTHER, 2)):
        courses.arrives()
        clock.now += 1
        courses.begins(study, number)
        courses.ends()
    assert [(study, number, len(spans)) for study, number, _, spans in told(courses)] == [
        (STUDY, 1, 2),
        (STUDY, 2, 1),
        (OTHER, 2, 1),
    ]


def test_what_is_lost_on_the_way_or_names_no_study_leaves_no_trace(courses: Courses) -> None:
    courses.arrives()
    assert courses.work() == pb.Work(phase=pb.FETCHING)
    courses.ends()
    courses.arrives()
    courses.begins("", 0)
    courses.sends()
    courses.ends()
    assert told(courses) == []


def test_the_newest_rounds_and_phases_are_kept_within_bounds(courses: Courses, clock: Clock) -> None:
    for number in range(RECENT + 3):
        courses.begins(STUDY, number)
        courses.ends()
    assert [number for _, number, _, _ in told(courses)] == list(range(3, RECENT + 3))
    courses.begins(STUDY, 2**40)
    for phase in range(100):
        clock.now += 1
        courses.progress(Progress(phase=("loading", "encoder")[phase % 2]))
    _, number, age, spans = told(courses)[-1]
    assert (number, len(spans)) == (MOST, MOST_SPANS)
    assert spans[0][1] == 0
    assert spans[-1][1] + spans[-1][2] <= age
    clock.now += OLDEST
    assert told(courses)[-1][3] == []  # older than what a hub would believe


@dataclass
class Scripted:
    """In the place of the link: each order is announced, takes a second to come, and its reply two to go."""

    orders: list[Message]
    stop: threading.Event
    clock: Clock

    def connect(self, stop: threading.Event) -> bool:
        return True

    def receive(self, announced: Callable[[], None]) -> Message | None:
        if not self.orders:
            self.stop.set()
            return None
        announced()
        self.clock.now += 1
        return self.orders.pop(0)

    def reply(self, message: Message, seconds_worked: float) -> bool:
        self.clock.now += 2
        return True


def test_an_order_goes_through_all_phases_in_the_gate(tmp_path: Path, clock: Clock) -> None:
    bench, stop = Bench(tmp_path), threading.Event()
    link = ControlLink(bench.site, "127.0.0.1:1", bench.gate.sent, cancel=lambda: None, wake=lambda: None)
    link.courses = Courses(clock)
    bench.gate = Gate(bench.site, bench.trainer, watch=link.courses.progress)
    hub = Scripted([order_message(each) for each in (JOIN, TRAIN)], stop, clock)
    Orders(hub, bench.gate, link, threading.Event()).answer_all(stop)  # type: ignore[arg-type]
    joined, trained = told(link.courses)
    assert (joined[0], joined[1]) == (TRAIN.study, 0)
    assert [phase for phase, _, _ in joined[3]] == [pb.FETCHING, pb.LOADING, pb.CHECKING, pb.SENDING]
    assert trained[1] == 1
    assert trained[3] == [
        (pb.FETCHING, 0, 1000),
        (pb.LOADING, 1000, 0),
        (pb.TRAINING, 1000, 0),
        (pb.CHECKING, 1000, 0),
        (pb.SENDING, 1000, 2000),
    ]
    assert link.courses.work() == pb.Work()
