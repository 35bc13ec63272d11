"""Changes in few numbers, whose inner products are nearly those of the changes: for rules that forget each update.

CountSketch (Charikar, Chen and Farach-Colton, 2002): every value goes, with a random sign, into one of `size` buckets.
Here the values of one block of `size` go to different buckets, turned by a random number for each block, so that two
values of different blocks meet with a chance of 1 in `size` and two of the same block never. An inner product is right
on average, with a standard error of at most sqrt(2 / size) of the product of the lengths.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate.stack import inner_products
from polyward_shared.schema import Flat

Array = NDArray[np.float64]

SIZE = 1 << 14
SEED = 20020708  # the same for all sites and rounds, or sketches could not be compared
SIGNS = 1 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # eight signs [256, 8] for each byte


def sketch(update: Flat, base: Flat, size: int = SIZE) -> Array:
    """The sketch [size] of `update` - `base`, both [n]; the change itself, with zeros behind it, where n <= size."""
    total = np.zeros(size)
    if update.size <= size:
        np.subtract(update, base, out=total[: update.size], dtype=np.float64)
        return total
    words = -(-size // 64)
    source = np.random.PCG64(SEED)  # its raw stream is the same in every version of numpy
    for begin in range(0, update.size, size):
        part = slice(begin, begin + size)
        change = np.subtract(update[part], base[part], dtype=np.float64)
        drawn = source.random_raw(words + 1)
        change *= SIGNS[drawn[:words].astype("<u8").view(np.uint8)].reshape(-1)[: change.size]
        turn = int(drawn[words] % size)
        front = min(change.size, size - turn)
        total[turn : turn + front] += change[:front]
        total[: change.size - front] += change[front:]
    return total


def gram(sketches: Array) -> Array:
    """Inner products [N, N] of sketches [N, size]."""
    return inner_products(sketches)
