"""Troubles are gathered by the authenticated site, and each has a word of advice."""

from __future__ import annotations

from pathlib import Path

from polyward_server.views.picture import moment
from polyward_server.views.troubles import KINDS, MEANING, OF_KINDS, UNKNOWN, read_troubles
from polyward_shared.problems import Code
from tests.server.views.by_hand import ByHand


def test_every_code_has_a_meaning_and_an_advice() -> None:
    assert set(Code) <= set(MEANING)
    assert all(meaning and advice for meaning, advice in (*MEANING.values(), *OF_KINDS.values()))


def test_the_same_trouble_of_a_site_is_one_line(tmp_path: Path) -> None:
    hand = ByHand(tmp_path)
    hand.note(1, "bergen", "refused", "data")
    hand.note(2, "porto", "refused", "data")
    hand.note(3, "bergen", "refused", "data")
    hand.note(3, "bergen", "missed", "late")
    hand.note(3, "bergen", "asked", "attempt 2")
    picture = hand.look()
    rows = read_troubles(picture).rows
    assert [(row.site, row.kind, row.code, row.times, row.first_round, row.last_round) for row in rows] == [
        ("bergen", "missed", "late", 1, 3, 3),
        ("bergen", "refused", "data", 2, 1, 3),
        ("porto", "refused", "data", 1, 2, 2),
    ]
    at = [moment(noted.at) for noted, _ in picture.told("refused")]
    assert (rows[1].first, rows[1].last) == (at[0], at[2])


def test_a_word_that_the_hub_does_not_know_is_no_advice(tmp_path: Path) -> None:
    hand = ByHand(tmp_path)
    hand.note(1, "bergen", "refused", "<b>moon</b>")
    [row] = read_troubles(hand.look()).rows
    assert (row.meaning, row.advice) == UNKNOWN


def test_a_site_that_stood_out_twice_is_told_by_the_last_reason(tmp_path: Path) -> None:
    hand = ByHand(tmp_path)
    hand.note(1, "bergen", "outlier", "5.0 times as long")
    hand.note(4, "bergen", "outlier", "6.0 times as long")
    [row] = read_troubles(hand.look()).rows
    assert (row.times, row.code, row.first_round, row.last_round) == (2, "6.0 times as long", 1, 4)
    assert "outlier" in KINDS
