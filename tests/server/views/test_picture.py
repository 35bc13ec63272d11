"""A picture that is kept between two looks is the one that a stranger would see."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyward_server.records import State
from polyward_server.views import conflict, curves, drift, gain, matrix, privacy, tail, timeline, troubles
from polyward_server.views import study as head
from polyward_server.views.picture import RECENT, NoSuchStudy, Picture
from polyward_shared.messages import Stage
from polyward_shared.problems import Problem
from tests.server.views.by_hand import DIGEST, ByHand, figure


@pytest.fixture
def hand(tmp_path: Path) -> ByHand:
    made = ByHand(tmp_path)
    for site in ("bergen", "porto"):
        made.site(site)
        made.joins(site, grade=40, size=12)
    made.starts()
    return made


def assert_same(one: Picture, other: Picture) -> None:
    for part in dataclasses.fields(Picture):
        if part.name != "_figures":
            assert getattr(one, part.name) == getattr(other, part.name), part.name
    readers = (
        head.read_head,
        timeline.read_timeline,
        curves.read_curves,
        gain.read_gain,
        conflict.read_conflict,
        drift.read_updates,
        drift.read_drift,
        privacy.read_privacy,
        troubles.read_troubles,
        tail.read_tail,
        matrix.read_matrix,
    )
    for read in readers:
        assert read(one) == read(other), read.__name__


def story(hand: ByHand) -> Iterator[None]:
    """A study's days; whoever looks does so at every pause."""
    hand.note(1, "bergen", "asked", "attempt 1")
    yield
    hand.worked(1, "bergen", ("training", 1000.0, 3.0))
    hand.heard("bergen", 1003.0, state="idle")
    yield
    figures = [("bergen", figure("grade", 0.6))]
    hand.commits(1, {"bergen": 1.0, "porto": 2.0}, figures, {("bergen", "porto"): 0.5})
    yield
    hand.worked(1, "bergen", ("training", 1000.0, 3.0), ("sending", 1003.0, 1.0))  # told after its round's end
    hand.heard("bergen", 1004.0, state="idle")
    yield
    hand.commits(2, {"porto": 1.0}, [("porto", figure("grade", 0.7)), ("bergen", figure("size", 3.0))])
    yield
    hand.ledger.leave(DIGEST, "porto")
    yield
    hand.ledger.set_state(DIGEST, State.PAUSED, "a person's word")
    yield
    for value in (0.8, 0.9):  # the same site's later figures take the place of its earlier ones
        hand.concludes(2, "bergen", {"grade": "federated"}, figure("grade", value, stage=Stage.FINAL))
        yield


def test_only_what_is_new_is_read_and_nothing_is_missed(hand: ByHand) -> None:
    for _ in story(hand):
        assert_same(hand.look(), hand.anew())
    assert hand.look().series("grade", "test", Stage.FINAL, "auroc")["bergen"][0].value == 0.9


def test_without_news_it_is_the_same_picture(hand: ByHand) -> None:
    assert hand.look() is hand.look()


def test_of_rounds_long_ago_the_course_in_time_is_forgotten(hand: ByHand) -> None:
    for number in range(1, RECENT + 4):
        hand.worked(number, "bergen", ("training", 1000.0 + number, 0.5))
        hand.commits(number, {"bergen": 1.0})
        hand.look()
    assert min(hand.look().spans) == RECENT + 3 + 1 - RECENT
    assert_same(hand.look(), hand.anew())


def test_a_study_is_named_by_how_its_digest_begins(hand: ByHand) -> None:
    assert hand.pictures.named(DIGEST[:6]) == DIGEST
    assert hand.pictures.look(DIGEST[:8]).digest == DIGEST
    for wrong in (DIGEST[:5], "0" * 64, "%%%%%%", ""):
        with pytest.raises(NoSuchStudy, match="no such study"):
            hand.pictures.named(wrong)
        with pytest.raises(Problem):
            hand.pictures.look(wrong)


def test_a_round_is_open_from_the_first_request_until_it_is_committed(hand: ByHand) -> None:
    assert hand.look().opened is None
    hand.note(1, "bergen", "asked", "attempt 1")
    first = hand.look().opened
    hand.note(1, "porto", "asked", "attempt 1")
    assert first is not None
    assert hand.look().opened == first
    hand.note(1, "", "started")
    assert hand.look().opened is None  # the hub was started again: patience begins anew
    hand.note(1, "bergen", "asked", "attempt 1")
    assert (again := hand.look().opened) is not None
    assert again >= first
    hand.commits(1, {"bergen": 1.0})
    assert hand.look().opened is None
