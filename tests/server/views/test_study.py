"""The head of a study's page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from polyward_server.lease import Lease
from polyward_server.records import State
from polyward_server.views.study import read_head
from tests.server.views.by_hand import DIGEST, STUDY, ByHand


@pytest.fixture
def hand(tmp_path: Path) -> ByHand:
    made = ByHand(tmp_path)
    made.site("bergen")
    made.site("porto", approved=False)
    made.joins("bergen", grade=40)
    return made


def test_what_is_not_known_is_absent(hand: ByHand) -> None:
    head = read_head(hand.look())
    assert (head.round, head.committed, head.opened, head.deadline, head.done, head.pace_seconds) == (0,) + (None,) * 5
    assert (head.approved, head.unapproved) == (("bergen",), ("porto",))
    assert (head.place, head.leads) == (1, "by-hand")


def test_the_deadline_counts_from_the_first_request(hand: ByHand) -> None:
    hand.starts()
    hand.note(1, "bergen", "asked", "attempt 1")
    head = read_head(hand.look())
    assert head.opened is not None
    assert head.deadline == head.opened + timedelta(seconds=STUDY.participation.deadline_seconds)
    assert f"if they are {STUDY.participation.quorum} or more" in head.afterwards


def test_it_will_be_done_at_the_pace_of_the_last_rounds(hand: ByHand) -> None:
    hand.starts()
    for number in (1, 2, 3):
        hand.commits(number, {"bergen": 1.0})
    head = read_head(hand.look())
    assert head.committed is not None
    assert head.pace_seconds == 10.0
    assert head.done == head.committed + timedelta(seconds=(20 - 3) * 10)
    hand.ledger.set_state(DIGEST, State.PAUSED)
    assert read_head(hand.look()).done is None


def test_what_may_be_done_follows_the_course_of_the_study(hand: ByHand) -> None:
    possible = {}
    for state in (State.QUEUED, State.RUNNING, State.PAUSED, State.STOPPED):
        if state is not State.QUEUED:
            hand.ledger.set_state(DIGEST, state)
        possible[state] = read_head(hand.look()).possible
    assert possible[State.QUEUED] == ("pause", "stop", "priority")
    assert possible[State.RUNNING] == ("pause", "stop")
    assert possible[State.PAUSED] == ("resume", "stop")
    assert possible[State.STOPPED] == ("enqueue",)  # there is no encoder yet from which another could go on


def test_a_paused_study_is_ending_while_a_runner_has_it(hand: ByHand) -> None:
    lease = Lease(hand.ledger.engine, DIGEST, "a runner")
    assert lease.take()
    with lease:
        hand.ledger.set_state(DIGEST, State.RUNNING)
        assert not read_head(hand.look()).ending
        hand.ledger.set_state(DIGEST, State.PAUSED)
        assert read_head(hand.look()).ending
    hand.note(0, "bergen", "asked")
    assert not read_head(hand.look()).ending
