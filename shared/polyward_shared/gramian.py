"""Gramian G = J Jᵀ of K directions -> K coefficients, so that the common direction is Jᵀw. Pure functions over arrays.

The directions are gradients of tasks at a site, or changes of sites at the hub. None of these rules changes its answer
when all directions grow by the same factor. Each therefore starts by scaling G to a largest diagonal of 1, which lets
one tolerance serve directions of any size. G is K x K, so float64 on the CPU costs nothing; its entries are only as
good as float32.
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
    """Each direction loses its part against every other it conflicts with, in random order; then the sum.

    Yu et al., arXiv 2001.06782, algorithm 1. The directions projected onto are the original ones.
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
    the direction that pulls hardest to the one that pulls least. For K = 2 the first step is the closed form.
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


def scaled(gram: NDArray[Any]) -> Array:
    """G in float64, symmetric, with a largest diagonal of 1; all zeros if nothing has a length."""
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
