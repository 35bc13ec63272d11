"""Precision weighting: the posterior of quadratic losses, and nobody gains by a larger loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_server.aggregate.precision import LARGEST, LEAST, precision, relative
from tests.server.aggregate.stacking import Rows, random_rows, stacked


def step(rows: Rows, sure: Rows, weights: list[float]) -> list[float]:
    with stacked(rows) as changes, stacked(sure) as sureness:
        return list(precision(changes, sureness, np.array(weights)))


def test_quadratic_losses_meet_at_the_minimum_of_their_sum() -> None:
    """L_i = 1/2 (theta - mu_i) diag(a_i) (theta - mu_i), theta_i = mu_i, F_i = a_i: sum n_i a_i mu_i / sum n_i a_i."""
    mu = {"a": [1.0, 2.0], "b": [-3.0, 5.0]}
    sure = {"a": [0.5, 1.5], "b": [1.8, 0.2]}  # their means are 1
    wanted = [(2 * 0.5 * 1 + 1.8 * -3) / (2 * 0.5 + 1.8), (2 * 1.5 * 2 + 0.2 * 5) / (2 * 1.5 + 0.2)]
    assert step(mu, sure, [2, 1]) == pytest.approx(wanted, rel=5e-3)  # but for eps


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.sampled_from([1e-12, 0.1, 1e6]))
def test_a_larger_loss_has_no_more_say_and_equal_sureness_is_the_weighted_mean(seed: int, times: float) -> None:
    rows = random_rows(seed, 3)
    sure = {site: np.square(row) for site, row in random_rows(seed + 1000, 3).items()}
    found = step(rows, sure, [1, 2, 3])
    louder = dict(sure) | {"site1": sure["site1"] * np.float32(times)}
    assert step(rows, louder, [1, 2, 3]) == pytest.approx(found, rel=1e-4, abs=1e-6)
    alike = dict.fromkeys(rows, sure["site0"])
    mean = np.average(list(rows.values()), axis=0, weights=[1, 2, 3])
    assert step(rows, alike, [1, 2, 3]) == pytest.approx(mean, abs=1e-5)


def test_relative_precision_is_bounded_and_sound() -> None:
    values = np.array([0.0, 2.0, 1e9, -1.0, np.nan, np.inf])
    assert relative(values, 1.0).tolist() == [LEAST, 2 + LEAST, LARGEST, LEAST, LEAST, LEAST]
    assert relative(np.zeros(2), 0.0).tolist() == [1, 1]


def test_a_site_that_is_sure_of_nothing_counts_as_one_without_precisions() -> None:
    found = step({"a": [1.0, 1.0], "b": [4.0, 4.0]}, {"a": [1.0, 1.0], "b": [0.0, 0.0]}, [1, 2])
    assert found == pytest.approx([3, 3], rel=2e-3)


def test_where_nobody_is_sure_the_plain_mean_stands() -> None:
    sure = {"a": [1.0, 1.0, 0.0], "b": [1.0, 1.0, 0.0]}
    assert step({"a": [0.0, 0.0, 1.0], "b": [0.0, 0.0, 3.0]}, sure, [1, 1])[2] == pytest.approx(2)


def test_a_lying_site_decides_no_value_alone() -> None:
    wild = {"a": [1.0] * 100, "b": [1.0] * 100, "c": [1e30] + [0.0] * 99}
    found = step({"a": [0.0] * 100, "b": [0.0] * 100, "c": [1.0] * 100}, wild, [1, 1, 1])
    assert found[0] < LARGEST / (LARGEST + 2)
    assert max(found[1:]) < 1e-3


def test_precisions_of_other_sites_are_refused() -> None:
    with stacked({"a": [1.0]}) as changes, stacked({"b": [1.0]}) as sureness, pytest.raises(ValueError, match="same"):
        precision(changes, sureness, np.ones(1))
