"""The mean: right to float32's last bits, and the same bytes in whatever order the sites come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polyward_server.aggregate import fold
from polyward_shared.schema import Flat

VALUES = st.floats(-8, 8, width=32)
WEIGHTS = st.lists(st.integers(1, 1 << 18), min_size=1, max_size=4)


def folded(updates: list[Flat], weights: list[int], base: Flat) -> Flat:
    running = fold.start(base.size)
    for update, weight in zip(updates, weights, strict=True):
        fold.add(running, update, base, weight)
    return fold.mean(running, base)


@settings(deadline=None)
@given(st.data(), WEIGHTS)
def test_any_order_gives_the_same_bytes_and_the_right_mean(data: st.DataObject, weights: list[int]) -> None:
    vectors = [data.draw(hnp.arrays(np.float32, 5, elements=VALUES)) for _ in range(len(weights) + 1)]
    base, updates = vectors[0], vectors[1:]
    result = folded(updates, weights, base)
    order = data.draw(st.permutations(range(len(weights))))
    again = folded([updates[i] for i in order], [weights[i] for i in order], base)
    assert again.tobytes() == result.tobytes()
    mean = np.average(np.array(updates, np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(result, mean, atol=1e-6)


def test_by_hand() -> None:
    base = np.array([1, 1], np.float32)
    updates = [np.array([2, 1], np.float32), np.array([1, 5], np.float32)]
    assert folded(updates, [1, 3], base).tolist() == [1.25, 4.0]


def test_a_shortened_change_by_hand() -> None:
    base = np.array([1, 1], np.float32)
    running = fold.start(2)
    fold.add(running, np.array([5, 1], np.float32), base, 1, 0.25)
    fold.add(running, np.array([1, 5], np.float32), base, 1)
    assert fold.mean(running, base).tolist() == [1.5, 3.0]


def test_nobody_gives_the_base_itself() -> None:
    base = np.array([1, np.float32(0.1)], np.float32)
    result = folded([], [], base)
    assert result.tobytes() == base.tobytes()
    assert not np.shares_memory(result, base)


def test_slices_join(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    base, *updates = rng.normal(size=(4, 100)).astype(np.float32)
    whole = folded(updates, [3, 2, 1], base)
    monkeypatch.setattr(fold, "SLICE", 7)
    assert folded(updates, [3, 2, 1], base).tobytes() == whole.tobytes()
    assert fold.fits(updates[0], base)
    updates[0][99] = np.nan
    assert not fold.fits(updates[0], base)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65.0, -65.0, np.finfo(np.float32).max])
def test_what_the_sum_cannot_hold_does_not_fit(value: float) -> None:
    base = np.array([0, -np.finfo(np.float32).max / 2], np.float32)
    for place in (0, 1):
        update = base.copy()
        update[place] = value
        assert not fold.fits(update, base)


def test_the_largest_sum_stays_exact() -> None:
    """All weight on changes just below the bound: nothing wraps around."""
    base = np.zeros(2, np.float32)
    largest = np.nextafter(np.float32(fold.LARGEST_CHANGE), np.float32(0))
    update = np.array([largest, -largest], np.float32)
    assert fold.fits(update, base)
    parts = [fold.WEIGHT_TOTAL // 4] * 4
    assert folded([update] * 4, parts, base).tobytes() == update.tobytes()
