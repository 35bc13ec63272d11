"""From the changes of all sites to the one step of the encoder that they share: the study's rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate import conflict, robust
from polyward_server.aggregate.precision import precision as by_precision
from polyward_server.aggregate.stack import Stack
from polyward_shared.aggregation import Aggregation

Array = NDArray[np.float64]


def change(
    rule: Aggregation,
    stack: Stack,
    weights: Mapping[str, int],
    *,
    seed: int,
    precision: Stack | None = None,
) -> Array:
    """The step [n] that is added to what all sites had; zero when nobody gave anything.

    `weights` are read by the rules that weigh, `seed` by those that draw. A group of arrays that has no `precision`
    follows the weighted mean; one that fewer sites hold than krum can compare follows the median.
    """
    if rule.traits.encoders != "one":
        raise ValueError(f"the rule {rule.rule!r} gives no single step")
    size = len(stack.sites)
    if not size:
        return np.zeros(stack.size)
    match rule.rule:
        case "trimmed_mean":
            cut = min(rule.faulty, (size - 1) // 2)
            return _column_by_column(stack, lambda rows: robust.trimmed_mean(rows, cut))
        case "median":
            return _column_by_column(stack, robust.median)
        case "krum":
            if size < rule.faulty + 3:
                return _column_by_column(stack, robust.median)
            return stack.combined(np.eye(size)[robust.krum(stack.gram(), rule.faulty)])
        case "mgda" | "pcgrad" | "cagrad":
            return stack.combined(conflict.coefficients(rule, stack.gram(), seed))
        case "precision" if precision is not None:
            return by_precision(stack, precision, _shares(stack, weights))
        case _:
            return mean(stack, weights)


def mean(stack: Stack, weights: Mapping[str, int]) -> Array:
    """The weighted mean [n] of the rows of those sites that have a weight."""
    return stack.combined(_shares(stack, weights))


def _shares(stack: Stack, weights: Mapping[str, int]) -> Array:
    counts = [weights.get(site, 0) for site in stack.sites]
    return np.array(counts, np.float64) / sum(counts)


def _column_by_column(stack: Stack, answer: Callable[[Array], Array]) -> Array:
    step = np.empty(stack.size)
    for part, rows in stack.blocks():
        step[part] = answer(rows)
    return step
