"""How far one site may pull: updates longer than the usual are shortened.

Clipping by length stops a site of a wrong scale, by error or by will (Sun et al., arXiv 1911.07963, section 4), at the
price that sites with truly long ways are slowed. The usual is the median, which a minority of sites cannot move far.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median


def usual(norms: Iterable[float]) -> float | None:
    """The median of the lengths above zero; None where nobody moved."""
    moved = [norm for norm in norms if norm > 0]
    return median(moved) if moved else None


def scale(norm: float, usual: float | None, times: float) -> float:
    """What an update of length `norm` is multiplied by, in (0, 1], to be at most `times` the usual; `times` 0: 1."""
    if usual is None or times == 0 or norm <= times * usual:
        return 1.0
    return times * usual / norm
