"""Precision-weighted aggregation: each value follows the sites that are sure of it.

The product of diagonal Laplace posteriors: theta = sum_i n_i (F_i + eps) theta_i / sum_i n_i (F_i + eps), element by
element, with F_i a moving average of site i's squared gradients (the diagonal of its empirical Fisher information).
F grows with the square of a loss, so every F_i is divided by its mean first: a site has no more say for having a
larger loss, and none for being surer altogether.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate.stack import Stack

Array = NDArray[np.float64]

# Both times the mean; squared gradients spread over many powers of ten.
LEAST = 1e-3  # eps: differences below it are noise, and where no site is sure of a value it is the plain mean
LARGEST = 1e2  # beyond it one site would decide a value alone, by error or by will


def precision(changes: Stack, sureness: Stack, weights: Array) -> Array:
    """The step [n] from `changes` [N, n], the rows F of the same sites, and what each site counts for [N]."""
    if changes.sites != sureness.sites or changes.size != sureness.size:
        raise ValueError(f"found changes of {changes.sites} and precisions of {sureness.sites}; expected the same")
    means = _means(sureness)
    step = np.empty(changes.size)
    for (part, rows), (_, sure) in zip(changes.blocks(), sureness.blocks(), strict=True):
        weighted, total = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        for change, values, mean, weight in zip(rows, sure, means, weights, strict=True):
            say = weight * relative(values, float(mean))
            weighted += say * change
            total += say
        step[part] = weighted / total
    return step


def relative(values: Array, mean: float) -> Array:
    """F / mean + eps [m], at most LARGEST; 1 everywhere at a site whose F is zero throughout."""
    if mean <= 0:
        return np.ones_like(values)
    return np.minimum(_sound(values) / mean + LEAST, LARGEST)


def _means(sureness: Stack) -> Array:
    totals = np.zeros(len(sureness.sites))
    for _, rows in sureness.blocks():
        totals += _sound(rows).sum(1)
    return totals / sureness.size


def _sound(values: Array) -> Array:
    """No site sends negative or infinite values past its egress; should one arrive, it counts as not sure."""
    return np.where(np.isfinite(values) & (values > 0), values, 0)
