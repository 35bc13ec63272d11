"""Figures of a round by hand, and who is named."""

from __future__ import annotations

from dataclasses import astuple
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_server.aggregate.diagnostics import Diagnostics, Pair, diagnose, outliers

Rows = dict[str, list[float]]


def diagnosed(rows: Rows, weights: dict[str, int] | None = None) -> Diagnostics:
    matrix = np.array(list(rows.values()), np.float64)
    return diagnose(tuple(rows), matrix @ matrix.T, weights or dict.fromkeys(rows, 7))


def test_orthogonal_changes_by_hand() -> None:
    """U = (3 (4, 0) + (0, 3)) / 4 = (3, 3/4)."""
    found = diagnosed({"a": [4, 0], "b": [0, 3]}, {"a": 3, "b": 1})
    assert found.pairs == (Pair("a", "b", 0.0, 24 / 25),)
    a, b = found.parts
    assert (a.length, b.length) == (4, 3)
    assert a.share == pytest.approx(9 / (9 + 9 / 16))
    assert b.share == pytest.approx(1 - 9 / (9 + 9 / 16))
    assert (a.agreement, b.agreement) == (0, 0)
    assert found.step == pytest.approx(sqrt(9 + 9 / 16))
    assert found.cancellation == found.orthogonal == pytest.approx(1 - sqrt(9 + 9 / 16) / 3.75)
    assert found.effective_sites == pytest.approx(16 / 10)


def test_opposed_changes_cancel_and_agreeing_ones_do_not() -> None:
    found = diagnosed({"a": [1, 2], "b": [-1, -2]})
    assert found.pairs[0].cosine == pytest.approx(-1)
    assert [part.agreement for part in found.parts] == pytest.approx([-1, -1])
    assert [part.share for part in found.parts] == [None, None]
    assert (found.step, found.cancellation) == (0, 1)
    found = diagnosed({"a": [1, 2], "b": [1, 2]})
    assert found.cancellation == pytest.approx(0)
    assert found.orthogonal == pytest.approx(1 - sqrt(0.5))


@pytest.mark.parametrize("times", [1.0, 0.3, 0.7])
def test_changes_that_cancel_but_for_rounding_make_no_step(times: float) -> None:
    found = diagnosed({"a": [0.1 * times, 0.3], "b": [0.2 * times, 0.5], "c": [-0.3 * times, -0.8]})
    assert (found.step, found.cancellation) == (0, 1)
    assert [part.share for part in found.parts] == [None] * 3


def test_one_wild_change_does_not_put_the_others_in_the_wrong() -> None:
    found = diagnosed({"a": [1, 0.1], "b": [1, -0.1], "c": [1, 0], "wild": [-50, 0]})
    agreements = {part.site: part.agreement for part in found.parts}
    assert agreements["wild"] == pytest.approx(-1)
    assert min(agreements[site] or 0 for site in "abc") > 0.9
    assert set(outliers(found)) == {"wild"}


@given(st.integers(0, 999), st.integers(0, 5), st.data())
def test_shares_add_up_nothing_is_nan_and_names_are_nothing(seed: int, zeros: int, data: st.DataObject) -> None:
    rows = {f"s{i}": row.tolist() for i, row in enumerate(np.random.default_rng(seed).normal(size=(5, 6)))}
    rows |= {f"s{i}": [0.0] * 6 for i in range(zeros)}
    weights = {site: index + 1 for index, site in enumerate(rows)}
    found = diagnosed(rows, weights)
    flat = [value for pair in found.pairs for value in astuple(pair)] + [v for p in found.parts for v in astuple(p)]
    assert all(np.isfinite(value) for value in flat if isinstance(value, float))
    if zeros < 5:
        assert sum(part.share or 0 for part in found.parts) == pytest.approx(1)
    order = data.draw(st.permutations(sorted(rows)))
    again = diagnosed({site: rows[site] for site in order}, weights)
    lengths = {part.site: (part.length, part.share, part.agreement) for part in again.parts}
    for part in found.parts:
        assert lengths[part.site] == pytest.approx((part.length, part.share, part.agreement), abs=1e-9)
    assert again.step == pytest.approx(found.step)


def test_a_zero_change_has_no_cosine() -> None:
    found = diagnosed({"a": [0, 0], "b": [1, 0], "c": [0, 0]})
    assert [(pair.cosine, pair.magnitude) for pair in found.pairs] == [(None, 0), (None, None), (None, 0)]
    assert [part.agreement for part in found.parts] == [None] * 3
    nothing = diagnosed({"a": [0, 0]})
    assert (nothing.step, nothing.cancellation, nothing.orthogonal, nothing.parts[0].share) == (0, None, None, None)


def test_outliers_are_named_with_their_reasons() -> None:
    rows: Rows = {"a": [0.8, 0.6], "b": [0.8, -0.6], "c": [1, 0], "zero": [0, 0], "long": [7.3, 0], "back": [-0.5, 0]}
    found = outliers(diagnosed(rows), longest=4, least=-0.3)
    assert found == {
        "zero": "gave nothing",
        "long": "length 7.3 times the usual",
        "back": "against the others (-1.00)",
    }
    assert set(outliers(diagnosed(rows), longest=8, least=-1.1)) == {"zero"}
    assert outliers(diagnosed(rows | {"both": [-90, 0]}))["both"] == (
        "length 90.0 times the usual, against the others (-1.00)"
    )


def test_two_sites_cannot_tell_which_of_them_is_odd() -> None:
    assert outliers(diagnosed({"a": [1, 0], "b": [-9, 0]})) == {}
    assert outliers(diagnosed({"a": [1, 0], "b": [-9, 0], "c": [0, 0]})) == {"c": "gave nothing"}
