"""FedHCA2 by hand, and its learnt weights against differences of the loss that they descend."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polyward_server.aggregate.conflict import cagrad
from polyward_server.aggregate.fedhca2 import DECAY, attention, companions, hyper, learnt
from polyward_shared.schema import ArraySpec, Schema
from tests.server.aggregate.stacking import Rows, random_rows, stacked

X = Schema((ArraySpec("branches.x.w", (2,)), ArraySpec("branches.x.own", (1,))))
Y = Schema((ArraySpec("branches.y.w", (2,)),))
SCHEMAS = {"branches.x": X, "branches.y": Y}
TASKS = {"a": frozenset("x"), "b": frozenset("x"), "c": frozenset("y")}

Changes = dict[str, dict[str, list[float]]]
Memory = Mapping[str, NDArray[np.float32]]


def played(
    encoder: Rows, decoders: Mapping[str, Rows], memory: Memory, c: float = 0.0
) -> tuple[Changes, dict[str, Any]]:
    """One round: the changes of every site, and the memory after it."""
    with ExitStack() as stacks:
        rows = {group: (SCHEMAS[group], stacks.enter_context(stacked(each))) for group, each in decoders.items()}
        found = hyper(stacks.enter_context(stacked(encoder)), rows, TASKS, c, memory)
        changes = {site: {g: step.tolist() for g, step in found.changes(site).items()} for site in encoder}
        return changes, found.memory


def test_the_encoders_of_two_rounds_by_hand() -> None:
    """With c = 0, U is the mean (0, 2); a and b have the same tasks, and go on from the mean of their changes."""
    changes, memory = played({"a": [2, 0], "b": [0, 2], "c": [-2, 4]}, {}, {})
    assert changes["a"]["encoder"] == changes["b"]["encoder"] == pytest.approx([1, 1.2])
    assert changes["c"]["encoder"] == pytest.approx([-2, 4.2])
    changes, memory = played({"a": [0, 1], "b": [1, 0], "c": [0, -1]}, {}, memory)
    alphas = {site: float(memory[f"alpha/{site}"][0]) for site in "abc"}
    # velocity = -<U, change> + decay * 0.1; a moved along U, b across it, c against it
    assert alphas == pytest.approx({"a": 0.1 + 0.02 - 1e-7, "b": 0.1 - 1e-7, "c": 0.1 - 0.02 - 1e-7}, abs=1e-7)
    assert changes["c"]["encoder"] == pytest.approx([(0.08 - 1e-7) / 3, -1])  # the new U is (1/3, 0)


def test_the_common_step_is_cagrads() -> None:
    rows = random_rows(5, 3)
    encoder = dict(zip("abc", rows.values(), strict=True))
    changes, _ = played(encoder, {}, {}, c=0.4)
    matrix = np.array(list(rows.values()), np.float64)
    step = cagrad(matrix @ matrix.T, 0.4) @ matrix
    assert changes["c"]["encoder"] == pytest.approx(matrix[2] + 0.1 * step, abs=1e-5)
    assert changes["a"]["encoder"] == pytest.approx(matrix[:2].mean(0) + 0.1 * step, abs=1e-5)


def test_decoders_attend_to_tensors_of_the_same_name_and_shape() -> None:
    """w stands in all three decoders; `own` in two, and with values of 0 they count alike."""
    decoders: dict[str, Rows] = {"branches.x": {"a": [1, 0, 0], "b": [0, 1, 0]}, "branches.y": {"c": [2, 0]}}
    encoder: Rows = {"a": [0.0], "b": [0.0], "c": [0.0]}
    changes, _ = played(encoder, decoders, {})
    w = np.array([[1.0, 0], [0, 1], [2, 0]])
    scores = np.exp(w @ w.T / np.sqrt(2))
    wanted = w + 0.1 * (scores / scores.sum(1, keepdims=True)) @ w
    assert changes["a"]["branches.x"] == pytest.approx([*wanted[0], 0])
    assert changes["b"]["branches.x"] == pytest.approx([*wanted[1], 0])
    assert changes["c"]["branches.y"] == pytest.approx(wanted[2])
    assert set(changes["c"]) == {"encoder", "branches.y"}


@pytest.mark.parametrize("spec", [ArraySpec("branches.y.w", (1, 2)), ArraySpec("branches.y.w2", (2,))])
def test_tensors_of_another_shape_or_a_longer_name_are_not_compared(
    spec: ArraySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCHEMAS, "branches.y", Schema((spec,)))
    decoders: dict[str, Rows] = {"branches.x": {"a": [1, 0, 0]}, "branches.y": {"c": [0.2, 0.4]}}
    changes, _ = played({"a": [0.0], "c": [0.0]}, decoders, {})
    assert changes["c"]["branches.y"] == pytest.approx([0.22, 0.44])  # itself alone


def test_a_site_that_was_absent_keeps_its_weights_and_answers_the_step_that_it_got() -> None:
    _, first = played({"a": [1, 0], "b": [1, 0]}, {}, {})
    _, second = played({"a": [0, 1]}, {}, first)
    assert second["alpha/b"].tobytes() == first["alpha/b"].tobytes()
    _, third = played({"a": [0, 1], "b": [3, 0]}, {}, second)
    alpha, velocity, _ = third["alpha/b"]
    assert velocity == pytest.approx(-3 + DECAY * 0.1)  # <(1, 0), (3, 0)>, the step of the first round
    assert alpha == pytest.approx(0.13, abs=1e-6)
    assert sorted(name for name in third if name.startswith("step/")) == ["step/2"]
    assert sorted(name for name in second if name.startswith("step/")) == ["step/0", "step/1"]


def test_weights_are_clipped_and_have_no_slope_outside() -> None:
    _, memory = played({"a": [1, 0], "c": [0, 1]}, {}, {})
    memory["alpha/a"] = np.array([1.5, 0, 0], np.float32)
    changes, memory = played({"a": [1, 0], "c": [0, 1]}, {}, memory)
    assert memory["alpha/a"][1] == pytest.approx(DECAY * 1.5)
    assert changes["a"]["encoder"] == pytest.approx([1.5, 0.5])  # its own, and U whole


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_the_slopes_are_those_of_the_distance_between_sent_and_returned(seed: int) -> None:
    """L = |sent - returned|^2 / 2, by central differences of alpha and of each beta; `returned` stands still."""
    drawn = np.random.default_rng(seed)
    encoder = {site: drawn.normal(size=4) for site in "ab"}
    decoder = {site: drawn.normal(size=3) for site in "ab"}
    _, first = played(encoder, {"branches.x": decoder}, {}, c=0.4)
    following = {site: drawn.normal(size=4) for site in "ab"}
    answer = {site: drawn.normal(size=3) for site in "ab"}
    _, second = played(following, {"branches.x": answer}, first, c=0.4)

    def loss(pull: NDArray[np.float64], moved: NDArray[np.float64], weight: float) -> float:
        """At `weight` in place of 0.1; what was returned is what was sent at 0.1, and the site's next change."""
        return 0.5 * float(np.square((weight - 0.1) * pull - moved).sum())

    def slope(pull: Any, moved: Any) -> float:
        return (loss(pull, moved, 0.1 + 1e-4) - loss(pull, moved, 0.1 - 1e-4)) / 2e-4

    got = float(second["alpha/a"][1]) - DECAY * 0.1  # the first velocity is the slope and the decay
    assert got == pytest.approx(slope(first["step/0"], following["a"]), abs=1e-4)
    pulls = first["attended/a/branches.x"]
    for index, where in enumerate([slice(0, 2), slice(2, 3)]):
        got = float(second["beta/a/branches.x"][1, index]) - DECAY * 0.1
        assert got == pytest.approx(slope(pulls[where], answer["a"][where]), abs=1e-4)


def test_order_of_arrival_is_nothing_and_a_repeat_gives_the_same_bytes() -> None:
    encoder = dict(zip("abc", random_rows(1, 3).values(), strict=True))
    decoder = dict(zip("ab", random_rows(2, 2, 3).values(), strict=True))
    turned, other = dict(reversed(encoder.items())), dict(reversed(decoder.items()))
    changes, memory = played(encoder, {"branches.x": decoder}, {}, c=0.4)
    again, same = played(turned, {"branches.x": other}, {}, c=0.4)
    assert changes == again
    assert {name: array.tobytes() for name, array in memory.items()} == {n: a.tobytes() for n, a in same.items()}


def test_attention_by_hand_and_companions() -> None:
    assert attention(np.array([[0.0, np.log(3.0) * 2], [0.0, 0.0]]), 4) == pytest.approx(
        np.array([[0.25, 0.75], [0.5, 0.5]])
    )
    assert attention(np.array([[1e9, -1e9], [0.0, 0.0]]), 1)[0].tolist() == [1, 0]
    assert companions(("a", "b", "c"), TASKS, "b").tolist() == [0.5, 0.5, 0]


def test_sgd_with_momentum_and_decay_by_hand() -> None:
    weights, velocities = learnt(np.array([0.5]), np.array([2.0]), np.array([-1.0]))
    assert velocities == pytest.approx([0.9 * 2 - 1 + 1e-4 * 0.5])
    assert weights == pytest.approx([0.5 - 0.01 * velocities[0]])
