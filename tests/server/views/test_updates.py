"""Gain, conflict, norms, drift and what left: from ledgers that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_server.gains import gains
from polyward_server.records import Signals
from polyward_server.views.conflict import read_conflict, shade
from polyward_server.views.drift import read_drift, read_updates
from polyward_server.views.gain import read_gain
from polyward_server.views.privacy import read_privacy
from polyward_shared.messages import Stage
from tests.server.views.by_hand import STUDY, ByHand, figure

NEVER = ("none", "\N{EN DASH}")  # met


@pytest.fixture
def hand(tmp_path: Path) -> ByHand:
    made = ByHand(tmp_path)
    for site in ("bergen", "porto", "wien"):
        made.site(site)
        made.joins(site, grade=40, size=40)
    made.starts()
    return made


def test_a_gain_is_of_the_last_round_in_which_both_were_measured_on_as_many_cases(hand: ByHand) -> None:
    both = [("bergen", figure("size", 3.0)), ("bergen", figure("size", 3.5, stage=Stage.ALONE))]
    hand.commits(1, {"bergen": 1.0}, both)
    hand.commits(2, {"bergen": 1.0}, [("bergen", figure("size", 1.0)), ("porto", figure("grade", 0.9))])
    other = [("bergen", figure("size", 1.0, cases=50)), ("bergen", figure("size", 9.0, cases=49, stage=Stage.ALONE))]
    hand.commits(3, {"bergen": 1.0}, other)
    [row] = read_gain(hand.look()).rows
    assert (row.site, row.task, row.when, row.gain, row.better) == ("bergen", "size", "round 1", 0.5, True)
    assert [(each.site, each.when, each.gain) for each in gains(hand.ledger, STUDY)] == [("bergen", "round 1", 0.5)]


def test_a_pair_that_did_not_meet_has_no_cosine_but_its_mean(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0, "porto": 1.0}, cosines={("bergen", "porto"): 0.5})
    hand.commits(2, {"bergen": 1.0, "wien": 1.0}, cosines={("bergen", "wien"): -1.0})
    hand.commits(3, {"bergen": 1.0, "wien": 1.0}, cosines={("bergen", "wien"): 0.5})
    shown = read_conflict(hand.look())
    assert (shown.round, shown.back) == (3, 3)
    assert {(row.site, row.other): (row.cosine, row.mean, row.rounds) for row in shown.rows} == {
        ("bergen", "porto"): (None, 0.5, 1),
        ("bergen", "wien"): (0.5, -0.25, 2),
    }
    [(_, last), (_, mean)] = shown.maps
    assert last[1] == ("porto", [NEVER, ("same", "·"), NEVER])
    assert mean[2] == ("wien", [("n1", "-0.25"), NEVER, ("same", "·")])


@pytest.mark.parametrize(
    ("cosine", "word"), [(1, "p5"), (-1, "n5"), (0.05, "z"), (-0.05, "z"), (0.1, "p1"), (-0.5, "n3")]
)
def test_shades_part_at_zero(cosine: float, word: str) -> None:
    assert shade(cosine) == word


def test_norms_of_a_round_to_which_a_site_gave_nothing_are_absent(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0, "porto": 2.0})
    hand.commits(2, {"bergen": 0.5})
    shown = read_updates(hand.look())
    assert {line.site: line.norms for line in shown.lines} == {"bergen": (1.0, 0.5), "porto": (2.0, None)}
    assert [(row.site, row.norm) for row in shown.last] == [("bergen", 0.5)]


def test_what_a_rule_cannot_say_is_absent(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0}, signals=Signals(step=0.5, drift=0.5))
    hand.commits(2, {"bergen": 1.0, "porto": 1.0}, signals=Signals(0.25, 0.6, 0.3, 0.29, 1.8))
    shown = read_drift(hand.look())
    assert [(row.round, row.step, row.cancellation, row.effective) for row in shown.rows] == [
        (1, 0.5, None, None),
        (2, 0.25, 0.3, 1.8),
    ]
    assert shown.charts[1][3]["y"][0]["values"] == [None, 0.3]


def test_what_left_is_the_sum_of_what_was_taken(hand: ByHand) -> None:
    hand.commits(1, {"bergen": 1.0, "porto": 2.0})
    hand.commits(2, {"bergen": 0.5})
    hand.note(2, "porto", "refused", "egress-norm")
    hand.note(2, "porto", "refused", "data")  # no word of the way out
    shown = read_privacy(hand.look())
    assert [(row.site, row.rounds, row.bytes_up, row.bytes_down, row.refused) for row in shown.rows] == [
        ("bergen", 2, 72, 80, 0),
        ("porto", 1, 36, 40, 1),
        ("wien", 0, 0, 0, 0),
    ]
    assert (shown.rows[0].arrays, shown.rows[0].values, shown.rows[0].round_bytes) == (2, 9, 36)
    assert shown.groups[0].arrays == ("encoder.w 2 x 3", "encoder.b 3")
    assert shown.total_up == 108
