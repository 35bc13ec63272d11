"""The solvers over a Gramian: against torchjd and scipy, against formulas by hand, and against searches over a grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize
from torchjd.aggregation import CAGradWeighting, MGDAWeighting, PCGradWeighting

from polyward_shared import gramian

Array = NDArray[np.float64]

EASY = np.array([[2.0, 1.0, 0.0, 0.5], [1.0, -1.0, 1.0, 0.0], [0.5, 0.0, -1.0, 3.0]])
OPPOSED = np.array([[2.0, 1.0, 0.0], [-1.0, 0.5, 1.0], [-0.5, -2.0, 0.3]])

ALL: dict[str, Callable[[Array], Array]] = {
    "pcgrad": lambda gram: gramian.pcgrad(gram, np.random.default_rng(0)),
    "mgda": gramian.mgda,
    "cagrad": lambda gram: gramian.cagrad(gram, 0.4),
}


def theirs(weighting: Any, gram: Array) -> list[float]:
    found: list[float] = weighting(torch.from_numpy(gram)).tolist()
    return found


def directions(seed: int, count: int, size: int = 6) -> Array:
    return np.random.default_rng(seed).normal(size=(count, size))


@pytest.mark.parametrize("seed", range(6))
def test_pcgrad_of_two_rows_agrees_with_torchjd(seed: int) -> None:
    rows = directions(seed, 2, 3)
    rows[1] -= 2 * rows[0]  # in conflict
    gram = rows @ rows.T
    assert gramian.pcgrad(gram, np.random.default_rng(0)) == pytest.approx(theirs(PCGradWeighting(), gram), rel=1e-6)


def test_pcgrad_projects_in_the_order_that_is_drawn() -> None:
    rows = OPPOSED
    wanted = np.zeros(3)
    drawn = np.random.default_rng(7)
    for own in range(3):
        projected = rows[own].copy()
        for other in drawn.permutation(3):
            if other != own and projected @ rows[other] < 0:
                projected -= projected @ rows[other] / (rows[other] @ rows[other]) * rows[other]
        wanted += projected
    assert gramian.pcgrad(rows @ rows.T, np.random.default_rng(7)) @ rows == pytest.approx(wanted, abs=1e-12)


def test_pcgrad_by_hand() -> None:
    """g = (1, 0) and (-1, 1): the first becomes (1/2, 1/2), the second (0, 1)."""
    rows = np.array([[1.0, 0.0], [-1.0, 1.0]])
    assert gramian.pcgrad(rows @ rows.T, np.random.default_rng(0)) @ rows == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("rows", [EASY, OPPOSED, directions(1, 2), directions(2, 4), directions(3, 3)])
def test_mgda_agrees_with_torchjd(rows: Array) -> None:
    gram = rows @ rows.T
    found = gramian.mgda(gram)
    assert found == pytest.approx(theirs(MGDAWeighting(1e-9, 2000), gram), abs=3e-3)  # plain Frank-Wolfe zigzags
    assert (gram @ found).min() >= found @ gram @ found - 1e-9  # behind the hull's nearest point lies no corner


def test_mgda_of_two_tasks_by_hand() -> None:
    assert gramian.mgda(np.array([[1.0, 0.0], [0.0, 4.0]])) == pytest.approx([0.8, 0.2])
    assert gramian.mgda(np.array([[1.0, 2.0], [2.0, 9.0]])) == pytest.approx([1.0, 0.0])  # the hull's corner


@pytest.mark.parametrize("rows", [OPPOSED, EASY, directions(8, 3)])
def test_cagrad_is_the_best_step_of_a_grid(rows: Array) -> None:
    """No v on a grid of the simplex has a lower dual cost; the step stays on the ball."""
    gram, c = rows @ rows.T, 0.4
    mean = rows.mean(0)
    radius = c * np.linalg.norm(mean)
    step = gramian.cagrad(gram, c) @ rows
    assert np.linalg.norm(step - mean) == pytest.approx(radius, rel=1e-6)
    ticks = np.linspace(0, 1, 101)
    lowest = min(
        v @ rows @ mean + radius * np.linalg.norm(v @ rows)
        for a, b in itertools.product(ticks, ticks)
        if a + b <= 1
        for v in [np.array([a, b, 1 - a - b])]
    )
    worst = (rows @ step).min()  # strong duality: the best worst-case gain is the lowest dual cost
    assert worst == pytest.approx(lowest, abs=2e-3)
    assert worst <= lowest + 1e-9


@pytest.mark.parametrize("rows", [OPPOSED, EASY, directions(8, 3), directions(9, 2), directions(10, 4)])
def test_cagrad_agrees_with_torchjd(rows: Array) -> None:
    """Theirs is solved to a tolerance."""
    gram = rows @ rows.T
    assert gramian.cagrad(gram, 0.4) == pytest.approx(theirs(CAGradWeighting(c=0.4), gram), abs=1e-4)


@pytest.mark.parametrize("rows", [OPPOSED, EASY, directions(12, 5), directions(13, 12, 40)])
def test_cagrad_is_as_good_as_scipys_minimum_of_the_same_cost(rows: Array) -> None:
    """min over the simplex of w.A.1/K + c |g_0| |g_w|: the algorithm's authors solve it by SLSQP from 1/K."""
    gram, c, size = rows @ rows.T, 0.4, len(rows)
    radius = c * np.linalg.norm(rows.mean(0))

    def cost(w: Array) -> float:
        return float(w @ gram.mean(0) + radius * np.sqrt(w @ gram @ w + 1e-12))

    whole = LinearConstraint(np.ones(size), 1, 1)
    start = np.full(size, 1 / size)
    options = {"ftol": 1e-12, "maxiter": 500}
    found = minimize(cost, start, method="SLSQP", bounds=[(0, 1)] * size, constraints=whole, options=options)
    ours = gramian.cagrad(gram, c) - 1 / size
    ours /= ours.sum()  # what is added to the mean, as a point of the simplex
    assert cost(ours) <= found.fun + 1e-7
    assert cost(ours) >= found.fun - 1e-6
    assert ours @ rows == pytest.approx(found.x @ rows, abs=2e-3)


def test_cagrad_with_no_room_is_the_mean() -> None:
    assert gramian.cagrad(OPPOSED @ OPPOSED.T, 0.0) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("name", ALL)
def test_one_direction_alone_is_left_as_it_is(name: str) -> None:
    wanted = 1.4 if name == "cagrad" else 1.0  # cagrad's ball lets a lone direction grow by c
    assert ALL[name](np.array([[3.0]])) == pytest.approx([wanted])


@pytest.mark.parametrize("name", ALL)
def test_the_size_of_all_directions_does_not_matter(name: str) -> None:
    gram = OPPOSED @ OPPOSED.T
    assert ALL[name](gram * 1e-30) == pytest.approx(ALL[name](gram), rel=1e-6, abs=1e-9)


@given(
    st.sampled_from(sorted(ALL)),
    st.lists(st.sampled_from([-1e18, -1.0, -1e-3, -1e-20, 0.0, 1e-20, 1e-3, 1.0, 1e18]), min_size=1, max_size=5),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_weights_are_finite_for_tiny_zero_and_collinear_directions(
    name: str, sizes: list[float], seed: int, collinear: bool
) -> None:
    rows = directions(seed, 1 if collinear else len(sizes), 3) * np.array(sizes)[:, None]
    weights = ALL[name]((rows @ rows.T).astype(np.float32))
    assert weights.shape == (len(sizes),)
    assert np.isfinite(weights).all()
