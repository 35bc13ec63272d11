"""Counts in steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_shared.buckets import bucket


@pytest.mark.parametrize(
    ("count", "step"),
    [
        (0, "0"),
        (1, "1-9"),
        (9, "1-9"),
        (10, "10-19"),
        (49, "20-49"),
        (50, "50-99"),
        (100, "100-199"),
        (7000, "5000-9999"),
    ],
)
def test_steps_by_hand(count: int, step: str) -> None:
    assert bucket(count) == step


@given(st.integers(1, 10**12))
def test_a_count_lies_in_its_step_and_all_of_the_step_is_told_alike(count: int) -> None:
    low, high = map(int, bucket(count).split("-"))
    assert low <= count <= high
    assert bucket(low) == bucket(high) == bucket(count)
