"""Rules that a few wild or lying sites cannot move far. Each site counts alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def trimmed_mean(rows: Array, cut: int) -> Array:
    """The mean [m] of what is left of each column of `rows` [N, m] without its `cut` least and largest values.

    Yin et al., arXiv 1803.01498, definition 2.
    """
    if not 0 <= 2 * cut < len(rows):
        raise ValueError(f"found {len(rows)} rows; cutting {cut} values at either end leaves none")
    kept: Array = np.sort(rows, axis=0)[cut : len(rows) - cut]
    total = np.zeros(rows.shape[1])
    for row in kept:
        total += row
    return total / len(kept)


def median(rows: Array) -> Array:
    """The middle value of each column of `rows` [N, m]: [m]. Yin et al., arXiv 1803.01498, definition 1."""
    return trimmed_mean(rows, (len(rows) - 1) // 2)


def krum(gram: Array, faulty: int) -> int:
    """The row that lies closest to most others: the least sum of squared distances to its N - faulty - 2 nearest.

    Blanchard et al., "Machine learning with adversaries", NIPS 2017, section 4 (arXiv 1703.02757). From the Gramian
    [N, N]; of equal rows the first. It takes 2 * faulty + 3 rows for the authors' promise, faulty + 3 for an answer.
    """
    size = len(gram)
    if not 0 <= faulty <= size - 3:
        raise ValueError(f"found {size} rows; {faulty} faulty ones leave nobody to compare with")
    lengths = gram.diagonal()
    apart = np.maximum(lengths[:, None] + lengths[None, :] - 2 * gram, 0)
    np.fill_diagonal(apart, np.inf)  # not its own neighbour
    scores = np.sort(apart, axis=1)[:, : size - faulty - 2].sum(1)
    return int(scores.argmin())
