"""Gramian of K task gradients -> K weights: the rules that sites alone use, in the manner of `polyward_shared.gramian`.

Without any gradient all tasks weigh the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyward_shared.gramian import ROUNDING, Array, scaled


def imtl_g(gram: NDArray[Any]) -> Array:
    """Equal projections on all unit gradients: w ~ G⁺d with d_k = ||g_k||, and sum w = 1.

    Liu et al., "Towards impartial multi-task learning", ICLR 2021, 3.1; this form is the one of Quinton and Rey,
    arXiv 2406.16232. Where no step has the same positive projection on all, the tasks weigh the same.
    """
    gram = scaled(gram)
    inverse: Array = np.linalg.pinv(gram, rcond=len(gram) * ROUNDING, hermitian=True).astype(np.float64)
    weights = inverse @ np.sqrt(gram.diagonal())
    total = float(weights.sum())
    if total <= 1e-6 * np.abs(weights).sum():  # an ascent once divided by its sum, or no direction at all
        return np.full(len(gram), 1 / len(gram))
    found: Array = weights / total
    return found


def aligned_mtl(gram: NDArray[Any]) -> Array:
    """All principal components of the gradients get the length of the shortest; then the mean of the tasks.

    Senushkin et al., arXiv 2305.19000, algorithm 1: w = sqrt(l_min) V L^(-1/2) Vᵀ (1/K), G = V L Vᵀ cut to its rank.
    """
    gram = scaled(gram)
    size = len(gram)
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * size * ROUNDING
    if not kept.any():
        return np.full(size, 1 / size)
    values, vectors = values[kept], vectors[:, kept]
    aligned: Array = vectors @ (np.sqrt(values[0] / values) * vectors.mean(0))
    return aligned


def upgrad(gram: NDArray[Any]) -> Array:
    """Each gradient is projected onto the directions that conflict with no task; then the mean.

    Quinton and Rey, arXiv 2406.16232, proposition 1: the projection of g_k is Jᵀ(e_k + l) with the l >= 0 that has
    the least (e_k + l)ᵀG(e_k + l).
    """
    gram = scaled(gram)
    size = len(gram)
    total = np.zeros(size)
    for unit in np.eye(size):
        total += unit + _least_nonnegative(gram, gram @ unit)
    return total / size


def _least_nonnegative(gram: Array, pull: Array) -> Array:
    """The l >= 0 with the least lᵀGl / 2 + l·pull: the active sets of Lawson and Hanson (1974), chapter 23."""
    size = len(gram)
    found, free = np.zeros(size), np.zeros(size, dtype=bool)
    for _ in range(3 * size):
        slope = np.where(free, np.inf, gram @ found + pull)
        if slope.min() >= -ROUNDING:
            break
        free[slope.argmin()] = True
        while free.any():
            wanted = np.zeros(size)
            wanted[free] = np.linalg.lstsq(gram[np.ix_(free, free)], -pull[free], rcond=ROUNDING)[0]
            low = free & (wanted <= 0)
            if not low.any():
                found = wanted
                break
            way = np.min(found[low] / (found[low] - wanted[low] + 1e-300))  # how far until the first reaches zero
            found = found + way * (wanted - found)
            free &= found > 1e-12
            found = np.where(free, found, 0)
    return found
