"""How far a state has moved."""

from __future__ import annotations

import math

import numpy as np

from polyward_shared.schema import Flat

SLICE = 1 << 20  # values per step, so that no temporary is as large as the encoder


def distance(update: Flat, base: Flat) -> float:
    """The L2 norm of `update` - `base`, both [n], in float64; not finite if a value is not."""
    total = 0.0
    for begin in range(0, base.size, SLICE):
        with np.errstate(invalid="ignore"):  # a hostile NaN shows in the result
            change = update[begin : begin + SLICE].astype(np.float64) - base[begin : begin + SLICE]
            total += float(np.square(change, out=change).sum())  # no BLAS: its threads fight for the cores
    return math.sqrt(total)
