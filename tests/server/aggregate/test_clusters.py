"""Clusters of sites whose encoders go the same way, and where those go that were not there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polyward_server.aggregate.clusters import cluster, followed

Array = NDArray[np.float64]

TWO_WAYS = np.array([[1.0, 0.1], [-1.0, 0.0], [0.9, 0.0], [-1.1, 0.1], [1.0, 0.0]])


def labels(states: Array, count: int) -> list[int]:
    return [int(label) for label in cluster(states @ states.T, count)]


def test_two_ways_are_two_clusters_numbered_by_their_first_site() -> None:
    assert labels(TWO_WAYS, 2) == [0, 1, 0, 1, 0]
    assert labels(TWO_WAYS[1:], 2) == [0, 1, 0, 1]
    assert labels(TWO_WAYS, 1) == [0] * 5


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(2, 4), st.permutations(range(6)))
def test_names_common_states_and_lengths_are_nothing(seed: int, count: int, order: list[int]) -> None:
    states = np.random.default_rng(seed).normal(size=(6, 5))
    found = labels(states, count)
    assert max(found) < count
    again = labels(states[order] * 7 + 3.0, count)
    together = {(i, j) for i in range(6) for j in range(6) if found[i] == found[j]}
    assert together == {(order[i], order[j]) for i in range(6) for j in range(6) if again[i] == again[j]}


def merged(apart: Array, count: int) -> set[frozenset[int]]:
    """The two clusters of the least mean distance become one, until `count` are left."""
    parts = [frozenset({index}) for index in range(len(apart))]
    while len(parts) > count:
        pairs = [(a, b) for a in parts for b in parts if a != b]
        a, b = min(pairs, key=lambda pair: float(np.mean([apart[i, j] for i in pair[0] for j in pair[1]])))
        parts = [part for part in parts if part not in (a, b)] + [a | b]
    return set(parts)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(2, 4))
def test_clusters_are_those_of_average_linkage(seed: int, count: int) -> None:
    states = np.random.default_rng(seed).normal(size=(7, 3))
    centred = states - states.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    found = labels(states, count)
    assert {frozenset(i for i in range(7) if found[i] == label) for label in found} == merged(1 - unit @ unit.T, count)


def test_two_pairs_by_hand() -> None:
    """Centred, at angles 0, 60, 180 and 240 degrees: two pairs."""
    angles = np.radians([0, 60, 180, 240])
    states = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert labels(states, 2) == [0, 0, 1, 1]
    assert labels(states, 4) == [0, 1, 2, 3]


def test_equal_states_are_one_cluster() -> None:
    assert labels(np.ones((4, 3)), 3) == [0] * 4
    assert labels(np.zeros((3, 3)), 2) == [0] * 3
    assert labels(np.ones((1, 3)), 2) == [0]
    assert labels(np.full((3, 1000), 0.1), 2) == [0] * 3  # where the mean is right but for rounding


def test_a_state_at_the_mean_gives_no_nan() -> None:
    found = labels(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), 3)
    assert found == [0, 1, 2, 0, 1]
    assert labels(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]), 3) == [0, 1, 0, 2]


def test_absent_sites_go_with_most_of_their_former_companions() -> None:
    before = {"a": 0, "b": 0, "c": 0, "absent": 0, "d": 1, "e": 1, "away": 1}
    found = followed([0, 1, 1, 0, 1], ["a", "b", "c", "d", "e"], before)
    assert found == {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1, "absent": 1, "away": 0}  # 0 and 1 are even for away


def test_newcomers_and_those_whose_companions_are_all_away_go_with_the_largest_cluster() -> None:
    before = {"a": 0, "b": 0, "c": -1, "new": -1, "lonely": 7}
    found = followed([1, 1, 0], ["a", "b", "c"], before)
    assert (found["new"], found["lonely"]) == (1, 1)  # c, new as well, is no company
    assert followed([0, 1], ["a", "b"], {"new": -1})["new"] == 0  # of equal clusters the lowest


def test_every_present_site_has_a_label() -> None:
    with pytest.raises(ValueError, match="zip"):
        followed([0], ["a", "b"], {})
