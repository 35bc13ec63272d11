"""Gramian G = J Jᵀ of K task gradients -> K weights, so that the shared gradient is Jᵀw. Pure functions over arrays.

None of these rules changes its answer when all gradients grow by the same factor. Each therefore starts by scaling G
to a largest diagonal of 1, which lets one tolerance serve gradients of any size. Without any gradient all tasks weigh
the same. G is K x K, so float64 on the CPU costs nothing; its entries are only as good as float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDING = float(np.finfo(np.float32).eps)  # of the entries of G, relative to its largest
MGDA_STEPS = 250
CAGRAD_STEPS = 500


def pcgrad(gram: NDArray[Any], generator: np.random.Generator) -> Array:
    """Each gradient loses its part against every other it conflicts with, in random order; then the sum.

    Yu et al., arXiv 2001.06782, algorithm 1. The gradients projected onto are the original ones.
    """
    gram = scaled(gram)
    size = len(gram)
    total = np.zeros(size)
    for own in range(size):
        coefficients = np.eye(size)[own]
        for other in generator.permutation(size):
            conflict = gram[other] @ coefficients
            if other != own and conflict < 0 and gram[other, other] > ROUNDING**2:
                coefficients[other] -= conflict / gram[other, other]
        total += coefficients
    return total


def mgda(gram: NDArray[Any]) -> Array:
    """The shortest vector of the convex hull: w on the simplex with the least wᵀGw.

    Désidéri, C. R. Math. 350 (2012); by Frank-Wolfe, as Sener and Koltun, arXiv 1810.04650, algorithm 2, but with
    pairwise steps (Lacoste-Julien and Jaggi, arXiv 1511.05932, algorithm 2), which do not zigzag: weight moves from
    the task that pulls hardest to the one that pulls least. For K = 2 the first step is the closed form.
    """
    gram = scaled(gram)
    weights = np.full(len(gram), 1 / len(gram))
    for _ in range(MGDA_STEPS):
        products = gram @ weights
        least = int(products.argmin())
        most = int(np.where(weights > 0, products, -np.inf).argmax())
        gap = products[most] - products[least]
        apart = gram[most, most] + gram[least, least] - 2 * gram[most, least]
        if gap <= 1e-12 or apart <= 0:  # the gap bounds what is left to gain
            break
        moved = min(weights[most], gap / apart)
        weights[most] -= moved
        weights[least] += moved
    return weights


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


def cagrad(gram: NDArray[Any], c: float) -> Array:
    """The step that helps the worst-off task most, within c times the mean gradient's length of the mean gradient.

    Liu et al., arXiv 2110.14048, algorithm 1: v on the simplex with the least g_v·g_0 + c||g_0|| ||g_v||, and
    w = 1/K + c||g_0|| / ||g_v|| v. Where g_v vanishes no step helps all, and the mean gradient alone is taken.
    """
    gram = scaled(gram)
    mean = np.full(len(gram), 1 / len(gram))
    pull = gram @ mean
    radius = c * _length(gram, mean)
    chosen = _least_on_simplex(gram, pull, radius)
    length = _length(gram, chosen)
    return mean if length <= ROUNDING else mean + radius / length * chosen


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


def scaled(gram: NDArray[Any]) -> Array:
    """G in float64, symmetric, with a largest diagonal of 1; all zeros if there is no gradient."""
    whole = gram.astype(np.float64)
    largest = whole.diagonal().max()
    return (whole + whole.T) / (2 * largest) if largest > 0 else np.zeros_like(whole)


def _length(gram: Array, weights: Array) -> float:
    return math.sqrt(max(0.0, float(weights @ gram @ weights)))


def _least_on_simplex(gram: Array, pull: Array, radius: float) -> Array:
    """The w on the simplex with the least w·pull + radius sqrt(wᵀGw): projected gradient, step by backtracking."""

    def cost(weights: Array) -> float:
        return float(weights @ pull) + radius * _length(gram, weights)

    weights, step = np.full(len(gram), 1 / len(gram)), 1.0
    for _ in range(CAGRAD_STEPS):
        slope = pull + radius * (gram @ weights) / max(_length(gram, weights), ROUNDING)
        moved = _onto_simplex(weights - step * slope)
        change = moved - weights
        while cost(moved) > cost(weights) + slope @ change + change @ change / (2 * step) + 1e-14:
            step /= 2
            moved = _onto_simplex(weights - step * slope)
            change = moved - weights
        gain = cost(weights) - cost(moved)
        weights, step = moved, min(2 * step, 1e3)
        if gain < 1e-13:
            break
    return weights


def _onto_simplex(point: Array) -> Array:
    """The nearest point with entries >= 0 that sum to 1 (Duchi et al., ICML 2008, figure 1)."""
    falling: Array = np.sort(point)[::-1]
    surplus = (np.cumsum(falling) - 1) / np.arange(1, len(point) + 1)
    nearest: Array = (point - surplus[np.flatnonzero(falling > surplus)[-1]]).clip(min=0)
    return nearest


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
