"""Where things lie in a plot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_server.report.curves import Course, curves, unbroken
from polyward_server.report.drawing import BLUE, ORANGE, axis, mixed, step_of, tick_text
from polyward_server.report.plots import STRIP, agreement, participation
from polyward_server.report.writing import runs
from polyward_server.views.receipts import Turn

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=9), st.booleans())
def test_values_lie_within_their_axis_and_ticks_are_round(values: list[float], zero: bool) -> None:
    found = axis(values, 100, 20, zero=zero)
    assert all(20 <= found.at(value) <= 100 for value in values)
    ticks = found.ticks()
    assert all(19.9 <= found.at(tick) <= 100.1 for tick in ticks)
    assert 1 <= len(ticks) <= 6
    if len(ticks) > 1:
        assert float(f"{step_of(ticks):.3g}") == pytest.approx(step_of(ticks))


def test_ticks_by_hand() -> None:
    found = axis([0.0, 10.0], 0, 100)
    assert found.ticks() == [0, 5, 10]
    assert [tick_text(tick, 5) for tick in found.ticks()] == ["0", "5", "10"]
    assert tick_text(-0.25, 0.05) == "−0.25"  # noqa: RUF001  a minus sign


def test_colours_are_thinned_with_white() -> None:
    assert (mixed("#102030", 1), mixed("#102030", 0)) == ("#102030", "#ffffff")


def test_runs_of_rounds() -> None:
    assert runs([4, 1, 2, 3, 6]) == "1–4, 6"  # noqa: RUF001
    assert runs([]) == "–"  # noqa: RUF001
    assert unbroken([2, 4, 8, 10], 2) == [[2, 4], [8, 10]]


def test_a_line_has_a_gap_where_nothing_was_measured() -> None:
    federated = {number: (number / 10, None, None) for number in (1, 2, 5, 6)}
    [picture] = curves("mask", [Course("site A", federated, {})], 6)
    [drawn] = [mark.attributes["d"] for mark in picture.marks if mark.attributes.get("stroke") == BLUE]
    assert drawn.count("M") == 2
    assert not any(mark.attributes.get("stroke") == ORANGE for mark in picture.marks)
    assert picture.told == "federated: 0.600 in round 6"


def test_intervals_are_shaded_only_where_both_ends_are_known() -> None:
    federated = {1: (0.5, 0.4, 0.6), 2: (0.6, None, None), 3: (0.7, 0.6, 0.8), 4: (0.7, 0.6, 0.8)}
    [picture] = curves("mask", [Course("site A", federated, {})], 4)
    shades = [mark for mark in picture.marks if mark.tag == "path" and mark.attributes.get("stroke") is None]
    assert len(shades) == 2


def test_each_turn_has_a_mark_of_its_own_form() -> None:
    turns = {"site A": {1: Turn.GAVE, 2: Turn.REFUSED, 3: Turn.MISSED, 4: Turn.ASKED}}
    [picture] = participation(turns, 5)
    filled = [mark for mark in picture.marks if mark.tag == "rect"]
    crosses = [mark for mark in picture.marks if mark.attributes.get("stroke") == ORANGE]
    rings = [mark for mark in picture.marks if mark.tag == "circle" and mark.attributes["fill"] == "none"]
    dots = [mark for mark in picture.marks if mark.tag == "circle" and mark.attributes["fill"] != "none"]
    assert [len(filled), len(crosses), len(rings), len(dots)] == [1, 2, 1, 1]
    assert picture.told == "site A: took part in 1 of 5 rounds, refused 1, missed 1"


def test_many_rounds_go_on_in_a_further_strip() -> None:
    strips = participation({"site A": dict.fromkeys(range(1, 150), Turn.GAVE)}, 149)
    assert [strip.title.rsplit(" ", 3)[1:] for strip in strips] == [
        ["1", "to", str(STRIP)],
        [str(STRIP + 1), "to", str(2 * STRIP)],
        [str(2 * STRIP + 1), "to", "149"],
    ]


def test_cosines_are_told_with_their_sign() -> None:
    picture = agreement(["site A", "site B"], {("site A", "site B"): -0.126})
    said = [mark.text for mark in picture.marks if mark.tag == "text" and mark.text[:1] in "+−"]  # noqa: RUF001
    assert said == ["−0.13", "−0.13"]  # noqa: RUF001
