"""The rules over a Gramian: against torchjd, against formulas by hand, and against searches over a grid."""

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
from torchjd.aggregation import (
    AlignedMTLWeighting,
    IMTLGWeighting,
    UPGradWeighting,
)

from polyward_client.trainer.balance import rules

Array = NDArray[np.float64]

EASY = np.array([[2.0, 1.0, 0.0, 0.5], [1.0, -1.0, 1.0, 0.0], [0.5, 0.0, -1.0, 3.0]])
OPPOSED = np.array([[2.0, 1.0, 0.0], [-1.0, 0.5, 1.0], [-0.5, -2.0, 0.3]])

ALL: dict[str, Callable[[Array], Array]] = {
    "imtl_g": rules.imtl_g,
    "aligned_mtl": rules.aligned_mtl,
    "upgrad": rules.upgrad,
}


def theirs(weighting: Any, gram: Array) -> list[float]:
    found: list[float] = weighting(torch.from_numpy(gram)).tolist()
    return found


def gradients(seed: int, tasks: int, size: int = 6) -> Array:
    return np.random.default_rng(seed).normal(size=(tasks, size))


@pytest.mark.parametrize("rows", [EASY, gradients(4, 2), gradients(5, 4)])
def test_imtl_g_agrees_with_torchjd_and_projects_equally(rows: Array) -> None:
    gram = rows @ rows.T
    weights = rules.imtl_g(gram)
    assert weights == pytest.approx(theirs(IMTLGWeighting(), gram), rel=1e-6)
    onto = weights @ rows @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    assert onto == pytest.approx([onto[0]] * len(rows))
    assert weights.sum() == pytest.approx(1)


def test_imtl_g_of_opposed_gradients_does_not_climb() -> None:
    assert rules.imtl_g(np.array([[1.0, -1.0], [-1.0, 1.0]])) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("rows", [EASY, OPPOSED, gradients(6, 2), gradients(7, 4)])
def test_aligned_mtl_agrees_with_torchjd(rows: Array) -> None:
    gram = rows @ rows.T
    assert rules.aligned_mtl(gram) == pytest.approx(theirs(AlignedMTLWeighting(), gram), rel=1e-6)


def test_aligned_mtl_by_hand() -> None:
    """Orthogonal gradients of lengths 1 and 4 both get length 1, then the mean."""
    assert rules.aligned_mtl(np.diag([1.0, 16.0])) == pytest.approx([1 / 2, 1 / 8])


@pytest.mark.parametrize("rows", [OPPOSED, EASY, gradients(8, 3), gradients(9, 2), gradients(10, 4)])
def test_upgrad_agrees_with_torchjd(rows: Array) -> None:
    """Theirs has 1e-4 added to the diagonal of the Gramian."""
    gram = rows @ rows.T
    assert rules.upgrad(gram) == pytest.approx(theirs(UPGradWeighting(), gram), abs=5e-4)


@pytest.mark.parametrize("rows", [OPPOSED, EASY, gradients(9, 2), gradients(10, 4), gradients(11, 5, 3)])
def test_upgrad_agrees_with_a_search_over_all_active_sets(rows: Array) -> None:
    gram = rows @ rows.T
    size = len(rows)
    wanted = np.zeros(rows.shape[1])
    for own in range(size):
        best: Array | None = None
        for free in (list(s) for n in range(size + 1) for s in itertools.combinations(range(size), n)):
            added = np.zeros(size)
            if free:
                added[free] = np.linalg.pinv(gram[np.ix_(free, free)]) @ -gram[free, own]
            moved = (np.eye(size)[own] + added) @ rows
            if (added >= -1e-9).all() and (rows @ moved >= -1e-9).all():
                best = moved
        assert best is not None
        wanted += best / size
    found = rules.upgrad(gram) @ rows
    assert found == pytest.approx(wanted, abs=1e-8)
    assert (rows @ found >= -1e-9).all()  # in conflict with no task


def test_upgrad_without_conflict_is_the_mean() -> None:
    assert rules.upgrad(np.array([[1.0, 0.5], [0.5, 2.0]])) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("name", ALL)
def test_one_task_alone_is_left_as_it_is(name: str) -> None:
    assert ALL[name](np.array([[3.0]])) == pytest.approx([1.0])


@pytest.mark.parametrize("name", ALL)
def test_the_size_of_all_gradients_does_not_matter(name: str) -> None:
    gram = OPPOSED @ OPPOSED.T
    assert ALL[name](gram * 1e-30) == pytest.approx(ALL[name](gram), rel=1e-6, abs=1e-9)


@given(
    st.sampled_from(sorted(ALL)),
    st.lists(st.sampled_from([-1e18, -1.0, -1e-3, -1e-20, 0.0, 1e-20, 1e-3, 1.0, 1e18]), min_size=1, max_size=5),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_weights_are_finite_for_tiny_zero_and_collinear_gradients(
    name: str, sizes: list[float], seed: int, collinear: bool
) -> None:
    rows = gradients(seed, 1 if collinear else len(sizes), 3) * np.array(sizes)[:, None]
    gram = (rows @ rows.T).astype(np.float32)
    weights = ALL[name](gram)
    assert weights.shape == (len(sizes),)
    assert np.isfinite(weights).all()
