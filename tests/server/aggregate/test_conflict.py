"""Conflict rules on changes: magnitudes are kept, and cagrad is the one of its authors' code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from polyward_server.aggregate import conflict
from polyward_shared.aggregation import Aggregation

ROWS = np.array([[2.0, 1.0, 0.0], [-1.0, 0.5, 1.0], [-0.5, -2.0, 0.3]])
GRAM = ROWS @ ROWS.T


def test_pcgrad_is_the_mean_of_the_projected_changes_in_the_order_drawn() -> None:
    wanted = np.zeros(3)
    drawn = np.random.default_rng(11)
    for own in range(3):
        projected = ROWS[own].copy()
        for other in drawn.permutation(3):
            if other != own and projected @ ROWS[other] < 0:
                projected -= projected @ ROWS[other] / (ROWS[other] @ ROWS[other]) * ROWS[other]
        wanted += projected / 3
    assert conflict.pcgrad(GRAM, 11) @ ROWS == pytest.approx(wanted, abs=1e-12)


def test_changes_without_conflict_keep_their_lengths_under_pcgrad() -> None:
    assert conflict.pcgrad(np.array([[100.0, 1.0], [1.0, 1.0]]), 0) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("c", [0.0, 0.4, 0.9])
def test_cagrad_is_the_formula_with_scipys_weights(c: float) -> None:
    """U = (D0 + c |D0| / |Gw| Gw) / (1 + c^2), w by SLSQP from 1/N."""
    mean = ROWS.mean(0)
    radius = c * np.linalg.norm(mean)
    found = minimize(
        lambda w: w @ ROWS @ mean + radius * np.sqrt(w @ GRAM @ w + 1e-8),
        np.full(3, 1 / 3),
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints=LinearConstraint(np.ones(3), 1, 1),
        options={"ftol": 1e-12},
    )
    chosen = found.x @ ROWS
    wanted = (mean + radius / np.linalg.norm(chosen) * chosen) / (1 + c**2)
    assert conflict.cagrad(GRAM, c) @ ROWS == pytest.approx(wanted, abs=1e-4)


def test_cagrad_does_better_by_the_worst_off_site_than_the_mean() -> None:
    mean = ROWS.mean(0)
    step = conflict.cagrad(GRAM, 0.4) * (1 + 0.4**2) @ ROWS
    assert np.linalg.norm(step - mean) == pytest.approx(0.4 * np.linalg.norm(mean), rel=1e-6)
    assert (ROWS @ step).min() > (ROWS @ mean).min() + 0.05


def test_another_rule_is_none_over_a_gramian() -> None:
    with pytest.raises(ValueError, match="'mean'"):
        conflict.coefficients(Aggregation(), GRAM, 0)
