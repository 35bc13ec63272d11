"""Lengths are cut to a multiple of the median."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polyward_server.aggregate import clip


def test_the_usual_is_the_median_of_those_that_moved() -> None:
    assert clip.usual([0.0, 3.0, 1.0, 0.0, 100.0]) == 3
    assert clip.usual([0.0, 1.0, 2.0]) == 1.5
    assert clip.usual([0.0]) is None
    assert clip.usual([]) is None


def test_scale_by_hand() -> None:
    assert clip.scale(12.0, 2.0, 3.0) == 0.5
    assert clip.scale(6.0, 2.0, 3.0) == 1
    assert clip.scale(1e9, 2.0, 0.0) == 1
    assert clip.scale(1e9, None, 3.0) == 1
    assert clip.scale(0.0, 2.0, 3.0) == 1


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(0.1, 10))
def test_nothing_grows_and_nothing_stays_too_long(norm: float, usual: float, times: float) -> None:
    scale = clip.scale(norm, usual, times)
    assert 0 < scale <= 1
    assert norm * scale <= times * usual * (1 + 1e-12)
