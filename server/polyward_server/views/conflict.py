"""Whether the sites' updates of the encoder pull the same way: cosines two by two, and of each with all the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from polyward_server.records import Pair
from polyward_server.views.picture import Picture
from polyward_shared.reading import Frozen

BACK = 5  # rounds in the mean
STEPS = 5  # of colour on either side of 0; the last begins at a cosine of 1 - 1 / STEPS


class PairRow(Frozen):
    """Two sites."""

    site: str
    other: str
    cosine: float | None  # in the last round; None where one of them gave nothing
    magnitude: float | None  # similarity of their updates' lengths, 1 if equal
    mean: float | None  # of the cosines of the last rounds in which both gave
    rounds: int  # in that mean


class Agreement(Frozen):
    """One site: the cosine of its update with the weighted sum of the others', round by round."""

    site: str
    place: int  # of the site among the study's
    values: tuple[float | None, ...]


class Conflict(Frozen):
    """The last round with at least two updates."""

    round: int
    back: int  # rounds in the means
    sites: tuple[str, ...]
    rounds: tuple[int, ...]
    agreements: tuple[Agreement, ...]
    rows: tuple[PairRow, ...]

    @property
    def chart(self) -> dict[str, Any]:
        """For the page's script."""
        lines = [
            {
                "label": each.site,
                "place": each.place,
                "values": [None if v is None else round(v, 4) for v in each.values],
            }
            for each in self.agreements
        ]
        return {"x": self.rounds, "y": lines, "xLabel": "round", "yLabel": "cosine with the others", "zero": True}

    @property
    def maps(self) -> list[tuple[str, list[tuple[str, list[tuple[str, str]]]]]]:
        """The last round and the mean: title, and a line of shades and texts for each site."""
        return [
            (f"Cosine of updates, round {self.round}", self._map({(r.site, r.other): r.cosine for r in self.rows})),
            (f"Mean over the last {self.back} rounds", self._map({(r.site, r.other): r.mean for r in self.rows})),
        ]

    def _map(self, cosines: dict[tuple[str, str], float | None]) -> list[tuple[str, list[tuple[str, str]]]]:
        both = cosines | {(other, site): cosine for (site, other), cosine in cosines.items()}
        return [(site, [_cell(site == other, both.get((site, other))) for other in self.sites]) for site in self.sites]


def _cell(is_same: bool, cosine: float | None) -> tuple[str, str]:
    if is_same:
        return "same", "·"
    return ("none", "\N{EN DASH}") if cosine is None else (shade(cosine), f"{cosine:+.2f}")


def shade(cosine: float) -> str:
    """The class of a cell's colour: n5 (opposite) to n1, z (about right angles), p1 to p5 (the same way)."""
    step = min(STEPS, int(abs(cosine) * STEPS + 0.5))
    return "z" if step == 0 else f"{'n' if cosine < 0 else 'p'}{step}"


def read_conflict(picture: Picture) -> Conflict:
    """Reads it from the study's picture."""
    numbers = sorted(number for number, pairs in picture.pairs.items() if pairs)
    recent = numbers[-BACK:]
    last = {(pair.site, pair.other): pair for pair in picture.pairs[numbers[-1]]} if numbers else {}
    cosines = cosines_of(pair for number in recent for pair in picture.pairs[number])
    rounds = tuple(number for number in sorted(picture.given) if number)
    return Conflict(
        round=numbers[-1] if numbers else 0,
        back=len(recent),
        sites=tuple(sorted({site for pair in cosines for site in pair})),
        rounds=rounds,
        agreements=_agreements(picture, rounds),
        rows=tuple(
            PairRow(
                site=site,
                other=other,
                cosine=last[site, other].cosine if (site, other) in last else None,
                magnitude=last[site, other].magnitude if (site, other) in last else None,
                mean=fmean(values),
                rounds=len(values),
            )
            for (site, other), values in sorted(cosines.items())
        ),
    )


def cosines_of(pairs: Iterable[Pair]) -> Mapping[tuple[str, str], list[float]]:
    """By the names of two sites: the cosines of their updates, in the order given."""
    found: dict[tuple[str, str], list[float]] = {}
    for pair in pairs:
        found.setdefault((pair.site, pair.other), []).append(pair.cosine)
    return found


def _agreements(picture: Picture, rounds: tuple[int, ...]) -> tuple[Agreement, ...]:
    places = picture.places
    by_site: dict[str, dict[int, float | None]] = {}
    for number in rounds:
        for each in picture.given[number]:
            by_site.setdefault(each.site, {})[number] = each.agreement
    return tuple(
        Agreement(site=site, place=places.get(site, 0), values=tuple(known.get(number) for number in rounds))
        for site, known in sorted(by_site.items())
        if any(value is not None for value in known.values())
    )
