"""A weighted mean that takes updates as they come and does not depend on their order.

FedAvg (McMahan et al. 2017, arXiv 1602.05629, algorithm 1): theta + sum_i w_i (theta_i - theta) / sum_i w_i.
Floating-point sums depend on the order of arrival in their last bits; here changes are summed as integers in units
of 2**-36, so the same set of sites gives the same bytes, whoever was first. 2**-36 is far below the last bit of a
float32 weight of ordinary size. Memory: 8 bytes per value, whatever the number of sites.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyward_shared.schema import Flat

UNIT = 2.0**36
WEIGHT_TOTAL = 1 << 20  # integer weights of one round sum to at most this
LARGEST_CHANGE = 2.0**6  # 6 + 36 + 20 bits: the sum stays inside 63
SLICE = 1 << 18


@dataclass(slots=True)
class Fold:
    """The sum so far, of `theta_i - base`, in units of 1/UNIT times weight: int64 [n]."""

    total: NDArray[np.int64]
    weight: int = 0


def start(size: int) -> Fold:
    """An empty sum over vectors of `size` values."""
    return Fold(np.zeros(size, np.int64))


def fits(update: Flat, base: Flat) -> bool:
    """Whether every value [n] is finite and no value moved further than the sum can hold."""
    for begin in range(0, base.size, SLICE):
        part = slice(begin, begin + SLICE)
        with np.errstate(over="ignore", invalid="ignore"):
            change = np.abs(update[part] - base[part])
        if not (change < LARGEST_CHANGE).all():  # false for NaN as well
            return False
    return True


def add(fold: Fold, update: Flat, base: Flat, weight: int, scale: float = 1.0) -> None:
    """Adds one site's state [n], which must `fits`, its change times `scale` <= 1; `weight` is from `site_weights`."""
    for begin in range(0, base.size, SLICE):
        part = slice(begin, begin + SLICE)
        change = np.subtract(update[part], base[part], dtype=np.float64)
        units = np.rint(np.multiply(change, UNIT * scale, out=change), out=change).astype(np.int64)
        fold.total[part] += np.multiply(units, weight, out=units)
    fold.weight += weight


def mean(fold: Fold, base: Flat) -> Flat:
    """The next state [n]: `base` itself when nobody contributed."""
    result = np.array(base, np.float32)
    if fold.weight:
        for begin in range(0, base.size, SLICE):
            part = slice(begin, begin + SLICE)
            result[part] = base[part] + fold.total[part] / (UNIT * fold.weight)
    return result
