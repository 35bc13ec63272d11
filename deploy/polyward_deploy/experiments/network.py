"""A small classifier in numpy: 784 inputs, 100 hidden units, ten classes, trained by plain gradient descent.

Arrays are named `hidden.weight` [inputs, hidden], `hidden.bias` [hidden], `head.weight` [hidden, classes] and
`head.bias` [classes]; which of them cross between sites is for the experiment to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Labels = NDArray[np.int64]
Network = dict[str, Values]

HIDDEN = ("hidden.weight", "hidden.bias")
HEAD = ("head.weight", "head.bias")
WIDTH = 100


def first_network(generator: np.random.Generator, inputs: int, classes: int) -> Network:
    """Weights from N(0, 1/inputs) in the first layer and N(0, 0.1^2) in the head, no biases."""
    return {
        "hidden.weight": (generator.standard_normal((inputs, WIDTH)) / np.sqrt(inputs)).astype(np.float32),
        "hidden.bias": np.zeros(WIDTH, np.float32),
        "head.weight": (0.1 * generator.standard_normal((WIDTH, classes))).astype(np.float32),
        "head.bias": np.zeros(classes, np.float32),
    }


def features(network: Mapping[str, Values], x: Values) -> Values:
    """[images, hidden] of [images, inputs]."""
    return np.asarray(np.maximum(x @ network["hidden.weight"] + network["hidden.bias"], 0), np.float32)


def accuracy(network: Mapping[str, Values], x: Values, y: Labels) -> float:
    """The share of the images [images, inputs] whose class [images] is the largest output."""
    outputs = features(network, x) @ network["head.weight"] + network["head.bias"]
    return float(np.mean(outputs.argmax(axis=1) == y))


def train_together(
    network: Network, x: Values, y: Labels, *, rate: float, batches: Iterator[NDArray[np.int64]]
) -> None:
    """Every layer, one step for each batch; the arrays are replaced in `network`, never changed."""
    trained = {name: values.copy() for name, values in network.items()}
    for batch in batches:
        hidden = features(trained, x[batch])
        error = _error(trained, hidden, y[batch])
        back = _through(trained, hidden, error)
        _step_head(trained, hidden, error, rate)
        _step_hidden(trained, x[batch], back, rate)
    network.update(trained)


def train_head(network: Network, x: Values, y: Labels, *, rate: float, batches: Iterator[NDArray[np.int64]]) -> None:
    """The head alone. The first layer stands still, so its features are computed once."""
    trained = {name: network[name].copy() for name in HEAD}
    hidden = features(network, x)
    for batch in batches:
        _step_head(trained, hidden[batch], _error(trained, hidden[batch], y[batch]), rate)
    network.update(trained)


def train_hidden(network: Network, x: Values, y: Labels, *, rate: float, batches: Iterator[NDArray[np.int64]]) -> None:
    """The first layer alone, through a head that stands still."""
    trained = {**network, **{name: network[name].copy() for name in HIDDEN}}
    for batch in batches:
        hidden = features(trained, x[batch])
        _step_hidden(trained, x[batch], _through(trained, hidden, _error(trained, hidden, y[batch])), rate)
    network.update(trained)


def shuffled(generator: np.random.Generator, count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Every place once, in batches of `size`; the last may be smaller."""
    order = generator.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def _error(head: Mapping[str, Values], hidden: Values, y: Labels) -> Values:
    """The gradient of the mean cross-entropy by the outputs: [batch, classes]."""
    outputs = hidden @ head["head.weight"] + head["head.bias"]
    chances = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(y)), y] -= 1
    return np.asarray(chances / np.float32(len(y)), np.float32)


def _through(network: Mapping[str, Values], hidden: Values, error: Values) -> Values:
    """The gradient by the first layer's outputs before ReLU: [batch, hidden]."""
    return np.asarray((error @ network["head.weight"].T) * (hidden > 0), np.float32)


def _step_head(network: Network, hidden: Values, error: Values, rate: float) -> None:
    network["head.weight"] -= np.float32(rate) * (hidden.T @ error)
    network["head.bias"] -= np.float32(rate) * error.sum(axis=0)


def _step_hidden(network: Network, x: Values, back: Values, rate: float) -> None:
    network["hidden.weight"] -= np.float32(rate) * (x.T @ back)
    network["hidden.bias"] -= np.float32(rate) * back.sum(axis=0)
