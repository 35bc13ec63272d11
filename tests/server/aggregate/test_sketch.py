"""Sketches keep inner products."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from polyward_server.aggregate.sketch import gram, sketch

SIZE = 1 << 10
Flat = NDArray[np.float32]


def zeros(vector: Flat) -> Flat:
    return np.zeros_like(vector)


def assert_close(rows: Flat, size: int = SIZE) -> None:
    found = gram(np.stack([sketch(row, zeros(row), size) for row in rows]))
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    apart = np.abs(found - rows.astype(np.float64) @ rows.T.astype(np.float64)) / lengths[:, None] / lengths
    assert apart.max() < 4 / sqrt(size)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [SIZE + 1, 3 * SIZE + 5, 30 * SIZE])
def test_inner_products_are_right_within_four_over_the_root_of_the_size(seed: int, values: int) -> None:
    """Four standard errors of orthogonal changes, and 2.8 of equal ones: for fixed seeds, not for all there are."""
    drawn = np.random.default_rng(seed)
    common = drawn.normal(size=values)
    one_way = np.abs(common)  # only signs keep buckets of it from adding up
    assert_close(np.stack([common, common + drawn.normal(size=values), -common, one_way]).astype(np.float32))


def test_errors_are_as_large_as_the_sketch_says_and_right_on_average() -> None:
    drawn = np.random.default_rng(0)
    rows = drawn.normal(size=(40, 20 * SIZE)).astype(np.float32)
    found = gram(np.stack([sketch(row, zeros(row), SIZE) for row in rows]))
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    errors = ((found - rows.astype(np.float64) @ rows.T) / lengths[:, None] / lengths)[np.triu_indices(40, 1)]
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(1 / sqrt(SIZE), rel=0.1)
    assert abs(errors.mean()) < 0.2 / sqrt(SIZE)


def test_values_that_stand_as_far_apart_as_the_sketch_is_long_do_not_all_meet() -> None:
    rows = np.zeros((2, 64 * SIZE), np.float32)
    rows[:, ::SIZE] = np.random.default_rng(0).normal(size=(2, 64))
    assert_close(rows)


@pytest.mark.parametrize("values", [1, SIZE - 1, SIZE])
def test_what_fits_is_kept_as_it_is(values: int) -> None:
    update, base = np.random.default_rng(0).normal(size=(2, values)).astype(np.float32)
    found = sketch(update, base, SIZE)
    assert found[:values].tolist() == (update.astype(np.float64) - base).tolist()
    assert not found[values:].any()


def test_every_value_is_in_one_bucket_and_a_repeat_gives_the_same_bytes() -> None:
    values = 3 * SIZE + 5
    update = np.random.default_rng(1).normal(size=values).astype(np.float32)
    assert sketch(update, zeros(update), SIZE).tobytes() == sketch(update, zeros(update), SIZE).tobytes()
    seen = np.zeros(SIZE)
    for place in (0, SIZE - 1, SIZE, 2 * SIZE + 17, values - 1):
        unit = np.zeros(values, np.float32)
        unit[place] = 2
        found = sketch(unit, zeros(unit), SIZE)
        assert sorted(np.abs(found))[-2:] == [0, 2]
        seen += found
    assert np.abs(seen).sum() <= 10


def test_sums_of_changes_are_sums_of_sketches() -> None:
    first, second, base = np.random.default_rng(2).integers(-8, 8, size=(3, 5 * SIZE)).astype(np.float32)
    whole = sketch(first + second, base, SIZE)
    assert whole.tolist() == (sketch(first, base, SIZE) + sketch(second, np.zeros_like(base), SIZE)).tolist()
