"""The hub's optimiser: the step that the rule gave is taken as a gradient's opposite, and remembered across rounds.

Reddi et al., "Adaptive federated optimization", arXiv 2003.00295, algorithm 2 (FedAdagrad, FedYogi, FedAdam), with no
correction of the first rounds, as there: m = b1 m + (1 - b1) D; v by the kind, from tau^2; step = rate m / (sqrt(v) +
tau). FedAvgM: Hsu et al., arXiv 1909.06335, section 4.3: m = b1 m + D; step = rate m.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate.fold import SLICE
from polyward_shared.aggregation import Aggregation
from polyward_shared.schema import Flat

Array = NDArray[np.float64]

FIRST, SECOND = "first", "second"  # moments, by their names in the memory


def optimised(rule: Aggregation, change: Array, memory: Mapping[str, Flat]) -> tuple[Array, dict[str, Flat]]:
    """The step [n] from the rule's `change` [n] and what is remembered, and the memory [n] of each name after it."""
    if rule.optimiser == "none":
        return change, {}
    names = (FIRST,) if rule.optimiser == "momentum" else (FIRST, SECOND)
    step = np.empty_like(change)
    after = {name: np.empty(change.size, np.float32) for name in names}
    for begin in range(0, change.size, SLICE):
        part = slice(begin, begin + SLICE)
        moments = {name: memory[name][part].astype(np.float64) for name in names if name in memory}
        if rule.optimiser == "momentum":
            moved = {FIRST: rule.beta1 * moments.get(FIRST, 0) + change[part]}
            step[part] = rule.rate * moved[FIRST]
        else:
            first = rule.beta1 * moments.get(FIRST, 0) + (1 - rule.beta1) * change[part]
            moved = {FIRST: first, SECOND: _second(rule, moments.get(SECOND), np.square(change[part]))}
            step[part] = rule.rate * first / (np.sqrt(moved[SECOND]) + rule.tau)
        for name, values in moved.items():
            after[name][part] = values
    return step, after


def _second(rule: Aggregation, before: Array | None, square: Array) -> Array:
    """v after one more squared change [m]."""
    v = np.full_like(square, rule.tau**2) if before is None else before
    match rule.optimiser:
        case "adagrad":
            return v + square
        case "yogi":
            return v - (1 - rule.beta2) * square * np.sign(v - square)
        case _:
            return rule.beta2 * v + (1 - rule.beta2) * square
