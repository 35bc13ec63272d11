"""How far two encoders lie apart: array by array, stage by stage, and as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyward_shared.reading import Frozen
from polyward_shared.schema import Flat, Named, group_of

CHUNK = 1 << 20  # values that are converted to float64 at once


class Distance(Frozen):
    """Of `b` from `a`, over one array or several.

    `relative` is ||a - b|| / ||a||, `cosine` that of the angle between the two, `greatest` the greatest change of a
    value, `share` the part of all squared change. None where a length is 0 and the number has no meaning.
    """

    name: str
    shape: tuple[int, ...] = ()  # of an array
    values: int
    relative: float | None
    cosine: float | None
    greatest: float
    share: float


class Reshaped(Frozen):
    """An array that both have in different shapes."""

    name: str
    a: tuple[int, ...]
    b: tuple[int, ...]


class Comparison(Frozen):
    """Two encoders. `arrays` and `stages` have the greatest part of the change first."""

    whole: Distance  # over the arrays that both have
    stages: tuple[Distance, ...]
    arrays: tuple[Distance, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    reshaped: tuple[Reshaped, ...]

    @property
    def alike(self) -> bool:
        """Whether both have the very same arrays."""
        return not (self.only_a or self.only_b or self.reshaped)


@dataclass(frozen=True, slots=True)
class _Sums:
    values: int = 0
    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    dd: float = 0.0
    greatest: float = 0.0


def compare(a: Named, b: Named) -> Comparison:
    """Arrays of one name are compared where their shapes are equal; they may be mapped files, read piece by piece."""
    common = [name for name in sorted(a.keys() & b.keys()) if a[name].shape == b[name].shape]
    sums = {name: _sums(a[name], b[name]) for name in common}
    whole = _added(sums.values())
    stages: dict[str, list[_Sums]] = {}
    for name in common:
        stages.setdefault(stage_of(name), []).append(sums[name])
    return Comparison(
        whole=_distance("", whole, whole.dd),
        stages=_sorted(_distance(name, _added(parts), whole.dd) for name, parts in stages.items()),
        arrays=_sorted(_distance(name, sums[name], whole.dd, a[name].shape) for name in common),
        only_a=tuple(sorted(a.keys() - b.keys())),
        only_b=tuple(sorted(b.keys() - a.keys())),
        reshaped=tuple(
            Reshaped(name=name, a=a[name].shape, b=b[name].shape)
            for name in sorted(a.keys() & b.keys())
            if a[name].shape != b[name].shape
        ),
    )


def stage_of(name: str) -> str:
    """The block of the network that an array belongs to: its name up to the first number, or its first word.

    `encoder.layers.0.blocks.1.weight` -> `layers.0`; `encoder.conv_init.weight` -> `conv_init`.
    """
    words = name.removeprefix(f"{group_of(name)}.").split(".")
    number = next((place for place, word in enumerate(words) if word.isdecimal()), 0)
    return ".".join(words[: number + 1])


def _sums(a: NDArray[np.float32], b: NDArray[np.float32]) -> _Sums:
    one, other = a.reshape(-1), b.reshape(-1)
    return _added(_piece(one[at : at + CHUNK], other[at : at + CHUNK]) for at in range(0, one.size, CHUNK))


def _piece(a: Flat, b: Flat) -> _Sums:
    x, y = a.astype(np.float64), b.astype(np.float64)
    change = y - x
    greatest = float(np.abs(change).max())
    return _Sums(x.size, float(x @ x), float(y @ y), float(x @ y), float(change @ change), greatest)


def _added(parts: Iterable[_Sums]) -> _Sums:
    parts = list(parts)
    return _Sums(
        sum(part.values for part in parts),
        math.fsum(part.aa for part in parts),
        math.fsum(part.bb for part in parts),
        math.fsum(part.ab for part in parts),
        math.fsum(part.dd for part in parts),
        max((part.greatest for part in parts), default=0.0),
    )


def _distance(name: str, sums: _Sums, total: float, shape: tuple[int, ...] = ()) -> Distance:
    lengths = math.sqrt(sums.aa) * math.sqrt(sums.bb)
    return Distance(
        name=name,
        shape=shape,
        values=sums.values,
        relative=math.sqrt(sums.dd) / math.sqrt(sums.aa) if sums.aa else (None if sums.dd else 0.0),
        cosine=max(-1.0, min(1.0, sums.ab / lengths)) if lengths else None,
        greatest=sums.greatest,
        share=sums.dd / total if total else 0.0,
    )


def _sorted(distances: Iterable[Distance]) -> tuple[Distance, ...]:
    return tuple(sorted(distances, key=lambda each: (-each.share, each.name)))
