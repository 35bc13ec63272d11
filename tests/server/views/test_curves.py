"""Curves: gaps stay gaps, and a choice that the study does not have is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_server.views.curves import read_curves
from polyward_shared.messages import Stage
from polyward_shared.problems import Problem
from tests.server.views.by_hand import ByHand, figure


@pytest.fixture
def hand(tmp_path: Path) -> ByHand:
    made = ByHand(tmp_path)
    for site in ("bergen", "porto"):
        made.site(site)
        made.joins(site, grade=40, size=40)
    made.starts()
    made.commits(1, {"bergen": 1.0}, [("bergen", figure("grade", 0.5)), ("porto", figure("grade", 0.25))])
    made.commits(2, {"bergen": 1.0}, [("bergen", figure("grade", 0.625, cases=60))])
    made.commits(3, {"bergen": 1.0})
    made.commits(4, {"bergen": 1.0}, [("bergen", figure("grade", 0.75)), ("porto", figure("grade", 0.5))])
    return made


def test_a_round_without_a_figure_is_a_gap_and_no_zero(hand: ByHand) -> None:
    [grade, *_] = read_curves(hand.look()).curves
    assert (grade.task, grade.metric, grade.rounds) == ("grade", "auroc", (1, 2, 3, 4))
    assert {line.site: line.values for line in grade.lines} == {
        "bergen": (0.5, 0.625, None, 0.75),
        "porto": (0.25, None, None, 0.5),
    }
    assert [line["values"] for line in grade.chart["y"]] == [[0.5, 0.625, None, 0.75], [0.25, None, None, 0.5]]


def test_nobody_is_averaged(hand: ByHand) -> None:
    [grade, *_] = read_curves(hand.look()).curves
    assert [line["label"] for line in grade.chart["y"]] == ["bergen (n 50)", "porto (n 50)"]


def test_rows_are_the_figures_alone(hand: ByHand) -> None:
    rows = [(row.site, row.round, row.value, row.cases) for row in read_curves(hand.look(), task="grade").rows]
    assert rows == [
        ("bergen", 1, 0.5, 50),
        ("bergen", 2, 0.625, 60),
        ("bergen", 4, 0.75, 50),
        ("porto", 1, 0.25, 50),
        ("porto", 4, 0.5, 50),
    ]


def test_another_split_and_stage_are_other_curves(hand: ByHand) -> None:
    hand.commits(5, {"bergen": 1.0}, [("bergen", figure("grade", 0.3, split="val", stage=Stage.RECEIVED))])
    shown = read_curves(hand.look(), task="grade", split="val", stage="received")
    assert [row.value for row in shown.rows] == [0.3]
    assert shown.curves[0].rounds == (5,)


@pytest.mark.parametrize(
    "choice",
    [
        {"task": "age"},
        {"metric": "auroc"},  # whose?
        {"task": "grade", "metric": "dice"},
        {"split": "train"},
        {"stage": "alone_final' OR 1=1"},
        {"stage": "ditto"},  # this study trains none
    ],
)
def test_a_choice_that_the_study_does_not_have_is_refused(hand: ByHand, choice: dict[str, str]) -> None:
    with pytest.raises(Problem, match="expected one of"):
        read_curves(hand.look(), **choice)
