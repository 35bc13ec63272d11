"""A round in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_server.told import read_spans
from polyward_server.views.timeline import MOST_TICKS, _ticks, read_timeline
from polyward_shared.problems import Problem
from tests.server.views.by_hand import DIGEST, ByHand


@pytest.fixture
def hand(tmp_path: Path) -> ByHand:
    made = ByHand(tmp_path)
    for site in ("bergen", "porto", "wien"):
        made.site(site)
        made.joins(site, grade=40)
    made.starts()
    return made


def test_phases_count_from_the_first_work(hand: ByHand) -> None:
    hand.worked(1, "bergen", ("fetching", 1000.0, 2.0), ("training", 1002.0, 30.0))
    hand.worked(1, "porto", ("training", 1005.0, 10.0))
    hand.commits(1, {"bergen": 1.0, "porto": 1.0})
    shown = read_timeline(hand.look())
    assert [(row.site, row.phase, row.start_seconds, row.seconds) for row in shown.rows] == [
        ("bergen", "fetching", 0.0, 2.0),
        ("bergen", "training", 2.0, 30.0),
        ("porto", "training", 5.0, 10.0),
    ]
    bergen, _, wien = shown.lanes
    assert (bergen.outcome, bergen.bytes_up, bergen.bytes_down) == ("gave", 36, 40)
    assert (wien.outcome, wien.bytes_up, wien.bytes_down, wien.phases) == ("not asked", None, None, ())
    assert not shown.is_open
    assert shown.committed_seconds is not None


def test_the_open_round_shows_what_is_done_now(hand: ByHand) -> None:
    for site in ("bergen", "porto"):
        hand.note(1, site, "asked", "attempt 1")
    work = {"study": DIGEST, "round": 1, "phase": "training", "done": 1, "of": 4}
    hand.heard("bergen", 1000.0, state="working", work=work)
    hand.note(1, "porto", "refused", "out-of-memory")
    shown = read_timeline(hand.look())
    assert (shown.round, shown.is_open, shown.committed_seconds) == (1, True, None)
    bergen, porto, wien = shown.lanes
    assert (bergen.outcome, bergen.present, bergen.done, bergen.of) == ("at work", "training", 1, 4)
    assert (porto.outcome, porto.detail) == ("refused", "out-of-memory")
    assert wien.outcome == "not asked"


def test_no_site_makes_a_round_begin_before_it_was_asked_for(hand: ByHand) -> None:
    hand.note(1, "bergen", "asked", "attempt 1")
    hand.worked(1, "bergen", ("fetching", time.time() - 5 * 86_400, 2.0))
    hand.worked(1, "stranger", ("fetching", time.time() - 30, 2.0))  # of no member of the study
    began = read_timeline(hand.look()).began
    assert began is not None
    assert 59 < time.time() - began.timestamp() < 120
    assert {lane.site for lane in read_timeline(hand.look()).lanes} == {"bergen", "porto", "wien"}


def test_of_a_round_that_has_not_begun_nothing_is_kept(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0})
    for number in (0, 1, 2, 3, 100_000):
        hand.worked(number, "bergen", ("fetching", 1000.0, 2.0))
    assert set(read_spans(hand.ledger, DIGEST)) == {0, 1, 2}
    assert read_timeline(hand.look()).choices == (2, 1)


def test_work_on_an_earlier_round_is_not_drawn_into_the_open_one(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0})
    hand.note(2, "bergen", "asked", "attempt 1")
    hand.heard("bergen", 1000.0, state="working", work={"study": DIGEST, "round": 1, "phase": "sending"})
    assert [lane.present for lane in read_timeline(hand.look()).lanes] == ["", "", ""]


def test_a_site_that_was_late_is_told_so(hand: ByHand) -> None:
    hand.note(1, "porto", "asked", "attempt 1")
    hand.note(1, "porto", "missed", "late")
    hand.commits(1, {"bergen": 1.0})
    [porto] = [lane for lane in read_timeline(hand.look()).lanes if lane.site == "porto"]
    assert (porto.outcome, porto.detail) == ("missed", "late")


def test_an_earlier_round_can_be_chosen_and_no_other_thing(hand: ByHand) -> None:
    for number in (1, 2, 3):
        hand.worked(number, "bergen", ("training", 1000.0 * number, 5.0))
        hand.commits(number, {"bergen": 1.0})
    assert read_timeline(hand.look()).round == 3
    assert read_timeline(hand.look(), round="2").round == 2
    assert read_timeline(hand.look()).choices == (3, 2, 1)
    for wrong in ("0", "4", "-1", "²", "two", "9" * 5000):
        with pytest.raises(Problem, match="one of the last ten rounds"):
            read_timeline(hand.look(), round=wrong)


@given(st.floats(0.1, 1e6))
def test_an_axis_has_few_ticks_and_all_on_it(length: float) -> None:
    ticks = _ticks(length)
    assert ticks[0] == 0
    assert max(ticks) <= length
    assert len(ticks) <= MOST_TICKS + 1
