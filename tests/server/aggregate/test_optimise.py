"""The hub's optimisers, two rounds by hand: changes of 0.2 and -0.1 with tau = 0.1, so v starts at 0.01."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

from polyward_server.aggregate import optimise
from polyward_server.aggregate.optimise import optimised
from polyward_shared.aggregation import Aggregation


def rule(optimiser: str) -> Aggregation:
    values: dict[str, Any] = {"optimiser": optimiser, "rate": 0.5, "beta1": 0.9, "beta2": 0.99, "tau": 0.1}
    return Aggregation.model_validate(values)


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("momentum", 0.5 * 0.2, 0.5 * (0.9 * 0.2 - 0.1)),
        ("adam", 0.5 * 0.02 / (sqrt(0.0103) + 0.1), 0.5 * 0.008 / (sqrt(0.010297) + 0.1)),
        ("yogi", 0.5 * 0.02 / (sqrt(0.0104) + 0.1), 0.5 * 0.008 / (sqrt(0.0103) + 0.1)),
        ("adagrad", 0.5 * 0.02 / (sqrt(0.05) + 0.1), 0.5 * 0.008 / (sqrt(0.06) + 0.1)),
    ],
)
def test_two_rounds_by_hand(kind: str, first: float, second: float) -> None:
    step, memory = optimised(rule(kind), np.array([0.2, 0.0]), {})
    assert step == pytest.approx([first, 0], rel=1e-6)
    assert set(memory) == ({"first"} if kind == "momentum" else {"first", "second"})
    assert all(array.dtype == np.float32 for array in memory.values())
    step, _ = optimised(rule(kind), np.array([-0.1, 0.0]), memory)
    assert step == pytest.approx([second, 0], rel=1e-5)


def test_none_is_the_change_itself() -> None:
    change = np.array([0.2, -1.0])
    step, memory = optimised(Aggregation(), change, {})
    assert step.tobytes() == change.tobytes()
    assert memory == {}


@pytest.mark.parametrize("kind", ["momentum", "adam", "yogi", "adagrad"])
def test_slices_join_and_a_repeat_gives_the_same_bytes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 50))

    def both() -> list[bytes]:
        _, memory = optimised(rule(kind), first, {})
        step, memory = optimised(rule(kind), second, memory)
        return [step.tobytes(), *(memory[name].tobytes() for name in sorted(memory))]

    whole = both()
    monkeypatch.setattr(optimise, "SLICE", 7)
    assert both() == whole
