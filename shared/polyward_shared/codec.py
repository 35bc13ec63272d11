"""The form of the shared arrays on the wire.

- `float32`: the values themselves, 4 bytes each.
- `bfloat16`: the change from a state that both sides hold, rounded to bfloat16 (8 bits of mantissa, round half to
  even), 2 bytes each. Receivers compute `base + change` in float32, which IEEE 754 makes equal on every machine;
  the sender therefore uses the *decoded* value as the truth from then on.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyward_shared.schema import Flat

Codec = Literal["float32", "bfloat16"]
BYTES_PER_VALUE: dict[Codec, int] = {"float32": 4, "bfloat16": 2}
SLICE = 1 << 20  # values handled at once, so that temporaries stay small beside a large encoder


def encode(codec: Codec, flat: Flat, base: Flat | None) -> bytes:
    """`flat` [n] as bytes. `bfloat16` needs the common `base` [n]."""
    if codec == "float32":
        return np.ascontiguousarray(flat, dtype="<f4").tobytes()
    if base is None:
        raise ValueError("bfloat16 sends a change: it needs the state that both sides hold")
    halves = np.empty(flat.size, "<u2")
    for start in range(0, flat.size, SLICE):
        part = slice(start, start + SLICE)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so, for the receiver to see
            halves[part] = _to_bfloat16(flat[part] - base[part])
    return halves.tobytes()


def decode(codec: Codec, data: bytes | memoryview, base: Flat | None) -> Flat:
    """The values [n], read-only for float32. Raises ValueError when the length does not fit."""
    if codec == "float32":
        return np.frombuffer(data, "<f4")
    if base is None:
        raise ValueError("bfloat16 sends a change: it needs the state that both sides hold")
    halves = np.frombuffer(data, "<u2")
    if halves.size != base.size:
        raise ValueError(f"expected {base.size} values, found {halves.size}")
    flat = np.empty(base.size, np.float32)
    for start in range(0, base.size, SLICE):
        part = slice(start, start + SLICE)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by those who read it
            flat[part] = base[part] + _from_bfloat16(halves[part])
    return flat


def _to_bfloat16(values: Flat) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    halves: NDArray[np.uint16] = (rounded >> np.uint32(16)).astype(np.uint16)
    not_a_number = np.isnan(values)
    if not_a_number.any():  # rounding could carry a NaN's bits into infinity; the receiver must see the NaN
        halves[not_a_number] = 0x7FC0
    return halves


def _from_bfloat16(halves: NDArray[np.uint16]) -> Flat:
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
