"""Kernels on their way from two dimensions to three."""

from __future__ import annotations

import numpy as np
import pytest

from polyward_shared.dimensions import expanded
from polyward_shared.problems import Problem


def test_a_kernel_becomes_the_centre_of_a_new_axis() -> None:
    kernel = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)
    volume = expanded({"k": kernel})["k"]
    assert volume.shape == (1, 2, 3, 3, 3)
    assert volume.dtype == np.float32
    assert np.array_equal(volume[..., 1], kernel)
    assert not volume[..., [0, 2]].any()


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_the_new_axis_stands_where_it_is_wanted(axis: int) -> None:
    kernel = np.random.default_rng(0).random((2, 1, 5, 5))
    volume = expanded({"k": kernel}, axis)["k"]
    assert np.array_equal(volume.take(2, axis), kernel)
    assert volume.sum() == pytest.approx(kernel.sum())
    assert volume.flags.c_contiguous


def test_a_kernel_of_width_one_gains_an_axis_and_nothing_else() -> None:
    kernel = np.ones((4, 2, 1, 1), np.float32)
    assert np.array_equal(expanded({"k": kernel})["k"], np.ones((4, 2, 1, 1, 1), np.float32))


def test_other_arrays_stay_and_the_order_too() -> None:
    arrays = {"norm": np.ones(4), "k": np.ones((1, 1, 3, 3)), "linear": np.ones((2, 3))}
    inflated = expanded(arrays)
    assert list(inflated) == ["norm", "k", "linear"]
    assert inflated["norm"] is arrays["norm"]
    assert inflated["linear"] is arrays["linear"]


def test_a_kernel_without_a_centre_is_refused() -> None:
    with pytest.raises(Problem, match="up: a kernel of even width 2 has no centre"):
        expanded({"up": np.ones((4, 4, 2, 2))})
