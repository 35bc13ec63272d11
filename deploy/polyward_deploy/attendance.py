"""Who takes part in which rounds of a simulation: sites that come late, and sites that leave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from polyward_server.exchange import Presence
from polyward_shared.problems import Problem


@dataclass(frozen=True, slots=True)
class Stay:
    """The rounds in which a site is there: from `first` to `last`, or to the end."""

    first: int = 1
    last: int | None = None


@dataclass(slots=True)
class Attendance:
    """Who is there now, and whose work came further when. Sites without a stay of their own are always there."""

    nodes: Mapping[str, int]
    stays: Mapping[str, Stay] = field(default_factory=dict)
    round: int = 1  # that is under way
    progressed: dict[str, float] = field(default_factory=dict)

    def present(self) -> dict[str, int]:
        """The nodes that are there."""
        return {site: node for site, node in self.nodes.items() if self._is_here(self.stays.get(site, Stay()))}

    def presence(self) -> dict[str, Presence]:
        return {site: Presence(True, 0.0, self.progressed.get(site)) for site in self.present()}

    def _is_here(self, stay: Stay) -> bool:
        return stay.first <= self.round and (stay.last is None or self.round <= stay.last)


def stays_of(late: Iterable[str], leaves: Iterable[str], sites: Collection[str], rounds: int) -> dict[str, Stay]:
    """The stays that `SITE=ROUND` says: first rounds, and last ones. Raises `Problem`."""
    stays: dict[str, Stay] = {}
    for site, number in (_site_and_round("--late", text, sites, rounds) for text in late):
        stays[site] = Stay(first=number)
    for site, number in (_site_and_round("--leaves", text, sites, rounds) for text in leaves):
        stays[site] = replace(stays.get(site, Stay()), last=number)
        if stays[site].first > number:
            raise Problem("--leaves", f"{site} would be gone before it comes", remedy="choose a later round")
    return stays


def _site_and_round(option: str, text: str, sites: Collection[str], rounds: int) -> tuple[str, int]:
    site, _, number = text.partition("=")
    if site not in sites:
        raise Problem(option, f"found {text!r}", expected=f"SITE=ROUND with a site of {', '.join(sites)}")
    if not number.isdecimal() or not 1 <= int(number) <= rounds:
        raise Problem(option, f"found {text!r}", expected=f"SITE=ROUND with a round from 1 to {rounds}")
    return site, int(number)
