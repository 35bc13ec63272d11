"""The report's plots that are no curves: who took part, how the two models compare, how updates agreed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from polyward_server.report.drawing import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    Axis,
    Mark,
    Picture,
    Point,
    axis,
    box,
    dot,
    line,
    mixed,
    shortened,
    step_of,
    text,
    tick_text,
)
from polyward_server.views.receipts import Turn
from polyward_server.views.results import Result
from polyward_server.words import ABSENT, figure

WIDTH = 660.0  # of the page's text on paper
STRIP = 60  # rounds side by side
NARROW = 24.0  # a field in which a cosine's digits have no room, and its sign stands alone
LONGEST = 24  # letters of a site's name


def participation(turns: Mapping[str, Mapping[int, Turn]], last: int) -> list[Picture]:
    """Rounds from left to right, a row for each site; more than `STRIP` rounds go on below."""
    strips = []
    for first in range(1, last + 1, STRIP):
        rounds = range(first, min(first + STRIP, last + 1))
        strips.append(_strip(turns, rounds, min(last, STRIP)))
    return strips


def _strip(turns: Mapping[str, Mapping[int, Turn]], rounds: range, longest: int) -> Picture:
    """`longest` is the number of rounds of the longest strip: all have cells of the same size."""
    left, top, row = _beside(turns), 18.0, 17.0
    cell = min(17.0, (WIDTH - left) / longest)
    every = next(step for step in (1, 2, 5, 10, 20) if step * cell >= 16)
    marks = [
        text(left + (place + 0.5) * cell, top - 6, str(number), anchor="middle", size=9, fill=MUTED)
        for place, number in enumerate(rounds)
        if number == rounds[0] or number % every == 0
    ]
    for place, (site, own) in enumerate(turns.items()):
        y = top + place * row
        marks.append(text(0, y + row / 2 + 3, shortened(site, LONGEST)))
        marks.append(line((left, y + row), (left + cell * len(rounds), y + row), FAINT))
        for column, number in enumerate(rounds):
            marks += _turn(own.get(number), (left + (column + 0.5) * cell, y + row / 2), min(cell, row) / 2 - 1.5)
    told = "; ".join(
        f"{site}: took part in {_count(own, Turn.GAVE, rounds)} of {len(rounds)} rounds, refused "
        f"{_count(own, Turn.REFUSED, rounds)}, missed {_count(own, Turn.MISSED, rounds)}"
        for site, own in turns.items()
    )
    title = f"Participation in rounds {rounds[0]} to {rounds[-1]}"
    return Picture(f"participation-{rounds[0]}", title, told, WIDTH, top + len(turns) * row + 4, tuple(marks))


def _turn(turn: Turn | None, centre: Point, radius: float) -> list[Mark]:
    x, y = centre
    match turn:
        case Turn.GAVE:
            return [box((x - radius, y - radius), 2 * radius, 2 * radius, BLUE)]
        case Turn.REFUSED:
            look = {"stroke_width": "1.8"}
            return [
                line((x - radius, y - radius), (x + radius, y + radius), ORANGE, **look),
                line((x - radius, y + radius), (x + radius, y - radius), ORANGE, **look),
            ]
        case Turn.MISSED:
            return [dot(centre, radius - 0.6, "none", stroke=INK, stroke_width="1.2")]
        case Turn.ASKED:
            return [dot(centre, 1.3, MUTED)]
        case None:
            return []


def intervals(task: str, rows: Sequence[tuple[str, Result]]) -> Picture:
    """The last figures of both models with their intervals, a row for each site."""
    left, row, top = _beside(site for site, _ in rows), 27.0 if len(rows) <= 12 else 20.0, 20.0
    upper, lower = row * 0.33, row * 0.7
    bottom = top + len(rows) * row
    known = [
        value
        for _, each in rows
        for value in (
            each.federated,
            each.federated_low,
            each.federated_high,
            each.alone,
            each.alone_low,
            each.alone_high,
        )
        if value is not None
    ]
    x = axis(known, left, WIDTH - 12)
    ticks = x.ticks(6)
    marks = [line((x.at(tick), top), (x.at(tick), bottom), FAINT) for tick in ticks]
    marks += [
        text(x.at(tick), bottom + 12, tick_text(tick, step_of(ticks)), anchor="middle", size=9, fill=MUTED)
        for tick in ticks
    ]
    for place, (site, each) in enumerate(rows):
        y = top + place * row
        marks.append(line((0, y + row), (WIDTH, y + row), FAINT))
        marks.append(text(0, y + row / 2 + 3, shortened(site, LONGEST)))
        marks += _whisker(x, y + upper, each.federated, each.federated_low, each.federated_high, BLUE)
        marks.append(dot((x.at(each.federated), y + upper), 3.4, BLUE))
        if each.alone is not None:
            marks += _whisker(x, y + lower, each.alone, each.alone_low, each.alone_high, ORANGE)
            corner = (x.at(each.alone) - 3, y + lower - 3)
            marks.append(box(corner, 6, 6, "#ffffff", stroke=ORANGE, stroke_width="1.5"))
    marks.append(dot((left + 4, 9), 3.4, BLUE))
    marks.append(text(left + 12, 12, "federated", size=9, fill=BLUE))
    marks.append(box((left + 67, 6), 6, 6, "#ffffff", stroke=ORANGE, stroke_width="1.5"))
    marks.append(text(left + 78, 12, "alone", size=9, fill=ORANGE))
    told = "; ".join(f"{site}: federated {figure(each.federated)}, alone {figure(each.alone)}" for site, each in rows)
    return Picture(f"intervals-{task}", f"{task}: last figures of both models", told, WIDTH, bottom + 18, tuple(marks))


def _whisker(x: Axis, y: float, value: float, low: float | None, high: float | None, colour: str) -> list[Mark]:
    if low is None or high is None:
        return []
    ends = [line((x.at(end), y - 3), (x.at(end), y + 3), colour, stroke_width="1.2") for end in (low, high)]
    return [line((x.at(min(low, value)), y), (x.at(max(high, value)), y), colour, stroke_width="1.4"), *ends]


def agreement(sites: Sequence[str], cosines: Mapping[tuple[str, str], float]) -> Picture:
    """Mean cosines of the sites' updates: blue where they point the same way, orange where they point apart."""
    left, top = _beside(sites), 24.0
    cell = min(58.0, (WIDTH - left) / max(len(sites), 1))
    high = min(cell, 26.0)
    marks = []
    for place, site in enumerate(sites):
        marks.append(text(0, top + (place + 0.5) * high + 3, shortened(site, LONGEST)))
        marks.append(
            text(left + (place + 0.5) * cell, top - 7, shortened(site, 10), anchor="middle", size=9, fill=MUTED)
        )
        for column, other in enumerate(sites):
            cosine = cosines.get((min(site, other), max(site, other))) if site != other else None
            corner = (left + column * cell, top + place * high)
            fill = FAINT if cosine is None else mixed(BLUE if cosine > 0 else ORANGE, 0.6 * min(abs(cosine), 1))
            marks.append(box(corner, cell - 1.5, high - 1.5, fill))
            if site != other:
                said = ABSENT if cosine is None else f"{cosine:+.2f}".replace("-", "\N{MINUS SIGN}")
                said = said if cell >= NARROW else said[:1]
                marks.append(text(corner[0] + cell / 2, corner[1] + high / 2 + 3, said, anchor="middle"))
    told = "; ".join(f"{one} and {other}: {value:+.2f}" for (one, other), value in sorted(cosines.items()))
    height = top + len(sites) * high + 4
    return Picture("agreement", "Mean cosine between the sites' updates", told, WIDTH, height, tuple(marks))


def _count(own: Mapping[int, Turn], turn: Turn, rounds: Iterable[int]) -> int:
    return sum(own.get(number) is turn for number in rounds)


def _beside(sites: Iterable[str]) -> float:
    """The width that the sites' names take on the left."""
    return 22 + 6.2 * max((len(shortened(site, LONGEST)) for site in sites), default=0)
