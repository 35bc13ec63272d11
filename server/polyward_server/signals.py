"""What a round's updates say together, in the ledger's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from polyward_server.aggregate.diagnostics import Diagnostics
from polyward_server.records import Contribution, Pair, Signals


def signals(found: Diagnostics, drift: float) -> Signals:
    """The figures of the whole round; `drift` is the encoder's distance from the first one."""
    return Signals(found.step, drift, found.cancellation, found.orthogonal, found.effective_sites)


def pairs_of(found: Diagnostics) -> list[Pair]:
    """The sites two by two, without those that did not move: they stand in no direction."""
    return [
        Pair(pair.site, pair.other, pair.cosine, pair.magnitude)
        for pair in found.pairs
        if pair.cosine is not None and pair.magnitude is not None
    ]


def attributed(given: Mapping[str, Contribution], found: Diagnostics) -> list[Contribution]:
    """The contributions, each with its part in the step."""
    return [
        replace(given[part.site], share=part.share, agreement=part.agreement)
        for part in found.parts
        if part.site in given
    ]
