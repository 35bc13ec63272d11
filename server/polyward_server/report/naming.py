"""By which names sites stand in a report: letters, unless a person asks for their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from polyward_server.views.receipts import SiteReceipt

OTHER = "another site"


@dataclass(frozen=True, slots=True)
class Names:
    """`labels` of the study's sites, `others` are sites of the hub that have no part in it."""

    labels: Mapping[str, str]
    others: frozenset[str] = frozenset()

    def of(self, site: str) -> str:
        return self.labels.get(site, OTHER)

    def hide(self, text: str) -> str:
        """The text with every site's name in it replaced by how it stands in the report."""
        known = sorted({*self.labels, *self.others}, key=len, reverse=True)
        if not known:
            return text
        names = "|".join(map(re.escape, known))
        return re.sub(rf"(?<!\w)(?:{names})(?!\w)", lambda found: self.of(found[0]), text)


def by_letter(receipts: Iterable[SiteReceipt], others: Iterable[str]) -> Names:
    """Site A, site B and so on.

    The order tells nothing of the names: sites that gave first come first, then by the digest of their first update,
    which the report shows anyway. It stays as it is while a study goes on; those that gave nothing yet come last.
    """
    rows = sorted(receipts, key=_first)
    return Names({row.site: f"site {letters(place)}" for place, row in enumerate(rows)}, frozenset(others))


def by_name(receipts: Iterable[SiteReceipt], others: Iterable[str]) -> Names:
    """Every site by its own name."""
    named = {row.site: row.site for row in receipts}
    return Names({**{other: other for other in others}, **named})


def letters(place: int) -> str:
    """A to Z, then AA, AB and so on, for places counted from 0."""
    text, place = "", place + 1
    while place:
        place, rest = divmod(place - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _first(row: SiteReceipt) -> tuple[float, str]:
    if row.updates:
        return row.updates[0].round, row.updates[0].sha256
    return float("inf"), row.joined or row.approved or row.withdrawn
