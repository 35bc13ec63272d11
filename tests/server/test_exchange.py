"""One question to many sites: who is waited for, who is asked again, and who is credited."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flwr.app import Error, Message, RecordDict

from polyward_server import exchange as module
from polyward_server.exchange import Answer, Exchange, Patience, Presence
from polyward_shared.messages import Kind, Order, Report
from polyward_shared.problems import Code
from polyward_shared.wire import order_content, payload_record, refusal_message, report_message
from tests.support.scripted_grid import Question, ScriptedGrid

NODES = {"a": 1, "b": 2, "c": 3}
NAMES = {node: name for name, node in NODES.items()}


class Room:
    """Sites by script: `react` is called for each question."""

    def __init__(self, react: Callable[[Room, Question, str, int], None]) -> None:
        self.grid = ScriptedGrid(lambda question: react(self, question, *self.who(question)))
        self.here = {name: Presence(online=True, since=0.0) for name in NODES}
        self.notices: list[tuple[str, str, str]] = []
        self.exchange = Exchange(self.grid, lambda: self.here, self.ask, lambda *notice: self.notices.append(notice))

    def ask(self, site: str, attempt: int) -> Message:
        order = Order(kind=Kind.TRAIN, study="a" * 64, round=1, attempt=attempt)
        return Message(order_content(order, payload_record(b"")), NODES[site], str(Kind.TRAIN))

    def who(self, question: Question) -> tuple[str, int]:
        header = question.message.content.config_records["order"]
        attempt = header["attempt"]
        assert isinstance(attempt, int)
        return NAMES[question.node], attempt

    def report(self, question: Question, samples: int = 1) -> None:
        _, attempt = self.who(question)
        report = Report(kind=Kind.TRAIN, study="a" * 64, round=1, attempt=attempt, state_digest="", samples=samples)
        self.grid.answer(question, report_message(report, question.message))

    def refuse(self, question: Question, code: Code) -> None:
        self.grid.answer(question, refusal_message(code, question.message))

    def fail(self, question: Question) -> None:
        self.grid.answer(question, Message(Error(code=3, reason="gone"), reply_to=question.message))

    def run(
        self, *sites: str, quorum: int = 1, deadline: float = 20.0, rejoin: float = 20.0, longest: float = 20.0
    ) -> Iterator[Answer]:
        yield from self.exchange.answers(
            list(sites),
            enough=lambda answered: len(answered) >= quorum,
            patience=Patience(deadline, rejoin, stall_seconds=5.0, longest_seconds=longest),
        )

    def progresses(self, site: str, seconds_ago: float = 0.0) -> None:
        """The site's work came further."""
        self.here[site] = Presence(online=True, since=0.0, progressed=time.time() - seconds_ago)

    def restart(self, site: str) -> None:
        """The site's gate was started again just now."""
        self.here[site] = Presence(online=True, since=time.time() + 0.001)


@pytest.fixture
def rooms() -> Iterator[Callable[[Callable[[Room, Question, str, int], None]], Room]]:
    made: list[Room] = []

    def room(react: Callable[[Room, Question, str, int], None]) -> Room:
        made.append(Room(react))
        return made[-1]

    yield room
    for each in made:
        each.grid.close()


Rooms = Callable[[Callable[[Room, Question, str, int], None]], Room]


def test_everybody_answers_once(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: room.report(question))
    answers = list(room.run("a", "b", "c", quorum=3))
    assert sorted(answer.site for answer in answers) == ["a", "b", "c"]
    assert all(answer.report is not None and answer.attempt == 1 for answer in answers)
    assert [notice[1] for notice in room.notices] == ["asked"] * 3


def test_who_is_credited_is_who_was_asked_whatever_the_answer_says(rooms: Rooms) -> None:
    """`b` answers its own question as if it came from `a`; nobody answers for `a`."""

    def react(room: Room, question: Question, site: str, attempt: int) -> None:
        if site == "b":
            room.report(question, samples=7)
            room.grid.ready[question.id].metadata.__dict__["_src_node_id"] = NODES["a"]

    [answer] = rooms(react).run("a", "b", deadline=0.2)
    assert answer.site == "b"
    assert answer.report is not None
    assert answer.report.samples == 7


def test_after_the_deadline_a_quorum_is_enough(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: room.report(question) if site != "c" else None)
    began = time.monotonic()
    answers = list(room.run("a", "b", "c", quorum=2, deadline=0.2))
    assert {answer.site for answer in answers} == {"a", "b"}
    assert time.monotonic() - began >= 0.2
    assert room.notices[-1] == ("c", "missed", "late")


def test_past_the_deadline_a_site_whose_work_comes_further_is_waited_for(rooms: Rooms) -> None:
    def react(room: Room, question: Question, site: str, attempt: int) -> None:
        if site == "a":
            room.report(question)
        else:
            room.progresses(site, seconds_ago=0.0 if site == "b" else 9.0)
            room.grid.later(1.5, lambda: room.report(question))

    room = rooms(react)
    assert {answer.site for answer in room.run("a", "b", "c", deadline=0.1)} >= {"a", "b"}
    still = rooms(lambda room, question, site, attempt: room.report(question) if site == "a" else None)
    still.progresses("b", seconds_ago=9.0)
    assert [answer.site for answer in still.run("a", "b", deadline=0.1)] == ["a"]
    assert still.notices[-1] == ("b", "missed", "late")


def test_no_progress_makes_a_round_longer_than_its_longest(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: room.report(question) if site == "a" else None)
    room.progresses("b")
    began = time.monotonic()
    assert [answer.site for answer in room.run("a", "b", deadline=0.1, longest=0.6)] == ["a"]
    assert 0.6 <= time.monotonic() - began < 5


def test_without_a_quorum_the_deadline_is_not_the_end(rooms: Rooms) -> None:
    def react(room: Room, question: Question, site: str, attempt: int) -> None:
        if site == "a":
            room.report(question)
        else:
            room.grid.later(0.5, lambda: room.report(question))

    assert len(list(rooms(react).run("a", "b", quorum=2, deadline=0.1))) == 2


def test_a_site_that_is_away_is_waited_for_and_asked_when_it_is_back(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: room.report(question))
    room.here["b"] = Presence(online=False, since=0.0)
    room.grid.later(0.3, lambda: room.restart("b"))
    answers = list(room.run("a", "b"))
    assert [answer.site for answer in answers] == ["a", "b"]
    assert room.notices.count(("b", "away", "")) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_site_that_stays_away_is_not_waited_for_once_there_is_a_quorum(rooms: Rooms, known: bool) -> None:
    room = rooms(lambda room, question, site, attempt: room.report(question))
    del room.here["b"]
    if known:
        room.here["b"] = Presence(online=False, since=0.0)
    assert [answer.site for answer in room.run("a", "b", rejoin=0.2)] == ["a"]
    assert room.notices[-1] == ("b", "missed", "away")


def test_a_restarted_gate_is_asked_again_and_counts_once(rooms: Rooms) -> None:
    """The answer to the first attempt comes late; the one to the second is then no news."""
    first: list[Question] = []

    def react(room: Room, question: Question, site: str, attempt: int) -> None:
        if site == "b":
            room.grid.later(0.6, lambda: room.report(question))
        elif attempt == 1:
            first.append(question)
            room.restart("a")
        else:
            room.report(first[0], samples=1)
            room.grid.later(0.2, lambda: room.report(question, samples=2))

    room = rooms(react)
    answers = list(room.run("a", "b", quorum=2))
    assert [(answer.site, answer.attempt) for answer in answers] == [("a", 1), ("b", 1)]
    assert ("a", "asked", "attempt 2") in room.notices


def test_a_late_refusal_of_an_earlier_attempt_does_not_end_the_later_one(rooms: Rooms) -> None:
    first: list[Question] = []

    def react(room: Room, question: Question, site: str, attempt: int) -> None:
        if attempt == 1:
            first.append(question)
            room.restart("a")
        else:
            room.refuse(first[0], Code.TRAINER_DIED)
            room.grid.later(0.3, lambda: room.report(question))

    room = rooms(react)
    [answer] = room.run("a")
    assert (answer.attempt, answer.code) == (2, None)
    assert ("a", "refused", "trainer-died") in room.notices


def test_a_site_that_refuses_does_not_stop_the_others(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: (
        room.refuse(question, Code.POLICY) if site == "b" else room.report(question)
    ))  # fmt: skip
    answers = {answer.site: answer.code for answer in room.run("a", "b", "c", quorum=2)}
    assert answers == {"a": None, "b": Code.POLICY, "c": None}
    assert ("b", "refused", "policy") in room.notices
    assert len(room.grid.asked) == 3


def test_a_refusal_is_no_step_towards_a_quorum(rooms: Rooms) -> None:
    def react(room: Room, question: Question, site: str, attempt: int) -> None:
        if site == "b":
            room.refuse(question, Code.POLICY)
        else:
            room.grid.later(0.5 if site == "c" else 0.0, lambda: room.report(question))

    assert {answer.site for answer in rooms(react).run("a", "b", "c", quorum=2, deadline=0.1)} == {"a", "b", "c"}


def test_a_site_that_lost_the_state_is_asked_again(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: (
        room.refuse(question, Code.STATE_UNKNOWN) if attempt == 1 else room.report(question)
    ))  # fmt: skip
    [answer] = room.run("a")
    assert (answer.attempt, answer.code) == (2, None)


@pytest.mark.parametrize(
    ("react", "code"),
    [
        (lambda room, question, site, attempt: room.fail(question), Code.INTERNAL),
        (lambda room, question, site, attempt: room.refuse(question, Code.STATE_UNKNOWN), Code.STATE_UNKNOWN),
    ],
)
def test_a_site_that_fails_again_and_again_is_left_out(
    rooms: Rooms,
    react: Callable[[Room, Question, str, int], None],
    code: Code,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ASKED_AGAIN_AT_MOST", 3)
    room = rooms(react)
    [answer] = room.run("a", quorum=1)
    assert (answer.attempt, answer.report, answer.code) == (3, None, code)
    assert len(room.grid.asked) == 3


def test_a_lost_message_is_asked_again(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: (
        room.fail(question) if attempt == 1 else room.report(question)
    ))  # fmt: skip
    [answer] = room.run("a")
    assert answer.attempt == 2
    assert ("a", "lost", "Flower's error 3") in room.notices


def test_a_node_that_flower_does_not_know_yet_uses_up_no_attempt(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKED_AGAIN_AT_MOST", 1)
    room = rooms(lambda room, question, site, attempt: room.report(question))
    room.grid.gone.add(NODES["a"])
    room.grid.later(0.3, room.grid.gone.clear)
    [answer] = room.run("a")
    assert answer.attempt == 1


@pytest.mark.parametrize("content", [RecordDict(), None])
def test_a_hostile_answer_is_one_code(rooms: Rooms, content: RecordDict | None) -> None:
    def react(room: Room, question: Question, site: str, attempt: int) -> None:
        room.report(question)
        if site == "b":
            room.grid.ready[question.id].__dict__["_content"] = content

    room = rooms(react)
    answers = {answer.site: answer.code for answer in room.run("a", "b")}
    assert answers == {"a": None, "b": Code.MALFORMED_ORDER}
    assert ("b", "refused", "malformed-order") in room.notices


def test_what_the_grid_raises_reaches_the_caller(rooms: Rooms) -> None:
    room = rooms(lambda room, question, site, attempt: None)
    room.grid.lost = ConnectionError("the SuperLink is gone")
    with pytest.raises(ConnectionError, match="SuperLink"):
        list(room.run("a"))


def test_no_thread_stays_behind(rooms: Rooms) -> None:
    before = threading.active_count()
    room = rooms(lambda room, question, site, attempt: room.report(question) if site == "a" else None)
    for _ in room.run("a", "b"):
        break  # the caller goes away
    deadline = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_to_ask_is_an_end(rooms: Rooms) -> None:
    assert list(rooms(lambda room, question, site, attempt: None).run()) == []
