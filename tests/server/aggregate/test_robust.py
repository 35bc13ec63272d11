"""Robust rules by hand and against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_server.aggregate import robust


def rows_of(seed: int, count: int) -> robust.Array:
    return np.random.default_rng(seed).normal(size=(count, 4))


@given(st.integers(0, 999), st.integers(1, 8))
def test_median_is_numpys(seed: int, count: int) -> None:
    rows = rows_of(seed, count)
    assert robust.median(rows) == pytest.approx(np.median(rows, axis=0))


@given(st.integers(0, 999), st.integers(1, 8), st.permutations(range(8)))
def test_trimming_nothing_is_the_mean_and_the_order_of_rows_is_nothing(seed: int, count: int, order: list[int]) -> None:
    rows = rows_of(seed, count)
    assert robust.trimmed_mean(rows, 0) == pytest.approx(rows.mean(0))
    cut = (count - 1) // 2
    again = rows[[place for place in order if place < count]]
    assert robust.trimmed_mean(again, cut).tobytes() == robust.trimmed_mean(rows, cut).tobytes()


def test_trimmed_mean_by_hand() -> None:
    assert robust.trimmed_mean(np.array([[1.0], [100.0], [2.0], [4.0], [-50.0]]), 1).tolist() == [7 / 3]


@pytest.mark.parametrize("cut", [-1, 1])
def test_cutting_all_or_less_than_nothing_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="2 rows"):
        robust.trimmed_mean(np.zeros((2, 1)), cut)


def test_krum_by_hand() -> None:
    """On a line at 0, 1, 3, 4, 20 with one faulty: sums of the two least squared distances are 10, 5, 5, 10, 545."""
    line = np.array([[0.0], [1.0], [3.0], [4.0], [20.0]])
    assert robust.krum(line @ line.T, 1) == 1  # the first of two that are as near
    assert robust.krum((line[::-1]) @ (line[::-1]).T, 1) == 2
    moved = line.copy()
    moved[1] = 1.5  # 1 + 2.25 at the third, against 2.25 + 2.25
    assert robust.krum(moved @ moved.T, 1) == 2


def test_krum_needs_somebody_to_compare_with() -> None:
    with pytest.raises(ValueError, match="3 rows; 1 faulty"):
        robust.krum(np.eye(3), 1)
