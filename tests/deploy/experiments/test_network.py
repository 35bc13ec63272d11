"""The small network: gradients, and that what stands still stands still."""

from __future__ import annotations

import numpy as np
import pytest

from polyward_deploy.experiments.network import (
    HEAD,
    HIDDEN,
    Labels,
    Network,
    Values,
    accuracy,
    features,
    first_network,
    shuffled,
    train_head,
    train_hidden,
    train_together,
)

INPUTS, CLASSES = 12, 3


@pytest.fixture
def network() -> Network:
    return first_network(np.random.default_rng(0), INPUTS, CLASSES)


@pytest.fixture
def cases() -> tuple[Values, Labels]:
    generator = np.random.default_rng(1)
    return generator.standard_normal((7, INPUTS), np.float32), generator.integers(0, CLASSES, 7)


def loss(network: Network, x: Values, y: Labels) -> float:
    outputs = (features(network, x) @ network["head.weight"] + network["head.bias"]).astype(np.float64)
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    return float(-np.log(chances[np.arange(len(y)), y]).mean())


def test_a_step_goes_down_the_gradient_of_the_mean_cross_entropy(
    network: Network, cases: tuple[Values, Labels]
) -> None:
    x, y = cases
    rate, nudge = 1e-2, 1e-2
    trained = dict(network)
    train_together(trained, x, y, rate=rate, batches=iter([np.arange(len(y))]))
    for name, place in (("hidden.weight", (2, 5)), ("hidden.bias", (4,)), ("head.weight", (5, 1)), ("head.bias", (2,))):
        slopes = []
        for sign in (1, -1):
            moved = {**network, name: network[name].copy()}
            moved[name][place] += np.float32(sign * nudge)
            slopes.append(loss(moved, x, y))
        slope = (slopes[0] - slopes[1]) / (2 * nudge)
        assert (network[name][place] - trained[name][place]) / rate == pytest.approx(slope, rel=0.05, abs=1e-4)


def test_each_phase_moves_its_own_part_and_leaves_the_given_arrays(
    network: Network, cases: tuple[Values, Labels]
) -> None:
    x, y = cases
    before = {name: values.copy() for name, values in network.items()}
    for train, moves, stands in ((train_head, HEAD, HIDDEN), (train_hidden, HIDDEN, HEAD)):
        trained = dict(network)
        train(trained, x, y, rate=0.1, batches=shuffled(np.random.default_rng(2), len(y), 3))
        assert all((trained[name] != network[name]).any() for name in moves)
        assert all(trained[name] is network[name] for name in stands)
    assert all((network[name] == before[name]).all() for name in network)


def test_training_learns(network: Network, cases: tuple[Values, Labels]) -> None:
    x, y = cases
    for _ in range(200):
        train_together(network, x, y, rate=0.1, batches=shuffled(np.random.default_rng(3), len(y), 3))
    assert accuracy(network, x, y) == 1.0


def test_an_epoch_takes_every_case_once() -> None:
    batches = list(shuffled(np.random.default_rng(4), 7, 3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert sorted(np.concatenate(batches)) == list(range(7))
