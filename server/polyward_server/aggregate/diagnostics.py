"""How the sites' changes of one round stand to one another, from their Gramian A [N, N] alone.

A cosine near 0 means "nothing in common" as readily as "no conflict". Cancellation above its orthogonal reference says
that changes work against each other, below it that they agree. Where a figure does not exist, as the cosine of a change
that is zero, it is None and never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate.weights import effective_sites

Array = NDArray[np.float64]

NOTHING = 1e-12  # of a sum of squares: what rounding leaves where vectors cancel


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sites' changes."""

    site: str
    other: str
    cosine: float | None
    magnitude: float | None  # 2 |a| |b| / (|a|^2 + |b|^2): 1 for equal lengths


@dataclass(frozen=True, slots=True)
class Part:
    """One site's change."""

    site: str
    length: float
    share: float | None  # of the step: w_i <D_i, U> / |U|^2; all shares add up to 1
    agreement: float | None  # cosine with the weighted sum of the others, each no longer than the median


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """One round. `cancellation` and `orthogonal` lie between 0 and 1."""

    pairs: tuple[Pair, ...]
    parts: tuple[Part, ...]
    step: float  # length of the weighted mean U
    cancellation: float | None  # 1 - |U| / sum w_i |D_i|
    orthogonal: float | None  # what cancellation would be, were all changes orthogonal
    effective_sites: float


def diagnose(sites: Sequence[str], gram: Array, weights: Mapping[str, int]) -> Diagnostics:
    """The figures of the changes with these inner products [N, N], rows in the order of `sites`."""
    counts = np.array([weights[site] for site in sites], np.float64)
    shares = counts / max(counts.sum(), 1)
    lengths = np.sqrt(np.maximum(gram.diagonal(), 0))
    square = _square(gram, shares)
    travelled = float((shares * lengths).sum())
    pulls = shares * (gram * shares).sum(1)
    agreements = _agreements(gram, shares, lengths)
    return Diagnostics(
        pairs=tuple(
            Pair(
                sites[i],
                sites[j],
                _over(gram[i, j], lengths[i] * lengths[j], 1.0),
                _over(2 * lengths[i] * lengths[j], gram[i, i] + gram[j, j], 1.0),
            )
            for i in range(len(sites))
            for j in range(i + 1, len(sites))
        ),
        parts=tuple(
            Part(site, float(lengths[i]), _over(pulls[i], square), agreements[i]) for i, site in enumerate(sites)
        ),
        step=math.sqrt(square),
        cancellation=_lost(math.sqrt(square), travelled),
        orthogonal=_lost(math.sqrt(float(np.square(shares * lengths).sum())), travelled),
        effective_sites=effective_sites({site: weights[site] for site in sites}),
    )


def outliers(
    diagnostics: Diagnostics,
    lengths: Mapping[str, float] | None = None,
    *,
    longest: float = 5.0,
    least: float = -0.2,
) -> dict[str, str]:
    """Sites that stand out, each with what is odd about it.

    `lengths` are those of the changes as they came, where `diagnostics` may know shortened ones. A change is long
    against the median of the others', of which two must have moved: `longest` times it. It is against the others when
    its agreement is below `least`, among three sites or more that moved.
    """
    lengths = lengths or {part.site: part.length for part in diagnostics.parts}
    found: dict[str, list[str]] = {}
    for part in diagnostics.parts:
        own, others = lengths[part.site], [length for site, length in lengths.items() if site != part.site and length]
        reasons = found.setdefault(part.site, [])
        if own == 0:
            reasons.append("gave nothing")
        if len(others) >= 2 and own > longest * median(others):
            reasons.append(f"length {own / median(others):.1f} times the usual")
        if len(others) >= 2 and part.agreement is not None and part.agreement < least:
            reasons.append(f"against the others ({part.agreement:.2f})")
    return {site: ", ".join(reasons) for site, reasons in found.items() if reasons}


def _agreements(gram: Array, shares: Array, lengths: Array) -> list[float | None]:
    """Cosine of each change with the sum of the others.

    Those are cut to the median length, or one wild change would put all others in the wrong.
    """
    positive = lengths[lengths > 0]
    if not len(positive):
        return [None] * len(lengths)
    usual = float(np.median(positive))
    says = shares * usual / np.maximum(lengths, usual)
    found = []
    for own, length in enumerate(lengths):
        others = np.where(np.arange(len(lengths)) == own, 0, says)
        found.append(_over((gram[own] * others).sum(), length * math.sqrt(_square(gram, others)), 1.0))
    return found


def _square(gram: Array, factors: Array) -> float:
    """The squared length of the sum of the changes times `factors` [N]; 0 where they cancel but for rounding."""
    terms = gram * factors[:, None] * factors[None, :]
    square = float(terms.sum())
    return square if square > NOTHING * float(np.abs(terms).sum()) else 0.0


def _over(above: float, below: float, bound: float = math.inf) -> float | None:
    """The quotient, within `bound` of 0; None over nothing."""
    return max(-bound, min(bound, float(above) / float(below))) if below > 0 else None


def _lost(left: float, travelled: float) -> float | None:
    return min(1.0, max(0.0, 1 - left / travelled)) if travelled > 0 else None
