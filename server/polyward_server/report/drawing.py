"""Plots as lists of marks: where everything lies is computed here, and a template writes it as SVG.

Lengths are in CSS pixels, y grows downwards. A mark says all of its look by presentation attributes, so that a plot is
the same in a browser and on paper, and needs no style of the page around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

INK, MUTED, LINE, FAINT = "#16232b", "#526370", "#c9d3d9", "#eef2f4"
BLUE, ORANGE = "#1f5fa8", "#b4560b"  # told apart by all kinds of colour vision; plots never rest on colour alone
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mark:
    """One SVG element."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One plot. `title` and `told` are what a reader who cannot see it is read."""

    name: str
    title: str
    told: str
    width: float
    height: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A line of numbers from `low` to `high`, laid from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 4) -> list[float]:
        """Round numbers within the axis, `about` so many, at least one apart by 1, 2 or 5 times a power of ten."""
        step = _step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(values: Iterable[float], start: float, end: float, *, zero: bool = False) -> Axis:
    """An axis on which these values lie, with a little room; from zero on if said."""
    known = [*values, *([0.0] if zero else [])]
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Axis(0.0 if zero and low >= 0 else low - room, high + room, start, end)


def tick_text(value: float, step: float) -> str:
    """A tick's number with as many digits as its step has."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def text(x: float, y: float, said: str, *, anchor: str = "start", size: float = 10, **more: str) -> Mark:
    attributes = {"x": _n(x), "y": _n(y), "font-size": _n(size), "text-anchor": anchor, "fill": INK}
    return Mark("text", attributes | {"font-family": FONT} | _attributes(more), said)


def line(start: Point, end: Point, stroke: str = LINE, **more: str) -> Mark:
    places = {"x1": _n(start[0]), "y1": _n(start[1]), "x2": _n(end[0]), "y2": _n(end[1])}
    return Mark("line", places | {"stroke": stroke, "stroke-width": "0.8"} | _attributes(more))


def box(corner: Point, width: float, height: float, fill: str, **more: str) -> Mark:
    places = {"x": _n(corner[0]), "y": _n(corner[1]), "width": _n(width), "height": _n(height)}
    return Mark("rect", places | {"fill": fill} | _attributes(more))


def dot(centre: Point, radius: float, fill: str, **more: str) -> Mark:
    places = {"cx": _n(centre[0]), "cy": _n(centre[1]), "r": _n(radius)}
    return Mark("circle", places | {"fill": fill} | _attributes(more))


def path(runs: Iterable[Sequence[Point]], stroke: str, **more: str) -> Mark:
    """Lines with gaps between the runs. A run of one point is drawn as a short dash, so that nothing is lost."""
    pieces = []
    for run in runs:
        points = [*run] if len(run) > 1 else [(run[0][0] - 1.5, run[0][1]), (run[0][0] + 1.5, run[0][1])]
        pieces.append("M" + "L".join(f"{_n(x)},{_n(y)}" for x, y in points))
    look = {"fill": "none", "stroke": stroke, "stroke-width": "1.4", "stroke-linejoin": "round"}
    return Mark("path", {"d": "".join(pieces)} | look | _attributes(more))


def area(low: Sequence[Point], high: Sequence[Point], fill: str) -> Mark:
    """What lies between two lines over the same places; of one place, a narrow bar."""
    if len(low) == 1:
        low = [(low[0][0] - 1.5, low[0][1]), (low[0][0] + 1.5, low[0][1])]
        high = [(high[0][0] - 1.5, high[0][1]), (high[0][0] + 1.5, high[0][1])]
    points = "L".join(f"{_n(x)},{_n(y)}" for x, y in [*low, *reversed(high)])
    return Mark("path", {"d": f"M{points}Z", "fill": fill})


def mixed(colour: str, strength: float) -> str:
    """The colour, thinned with white: `strength` 0 is white, 1 the colour itself."""
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (part - 255) * strength):02x}" for part in parts)


def shortened(name: str, most: int) -> str:
    """A name that fits its place; the tables have the whole."""
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _step(least: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def step_of(ticks: Sequence[float]) -> float:
    return ticks[1] - ticks[0] if len(ticks) > 1 else 1.0


def _n(value: float) -> str:
    """A number in as few signs as tenths of a pixel need."""
    return f"{value:.1f}".removesuffix(".0")


def _attributes(more: dict[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): value for key, value in more.items()}
