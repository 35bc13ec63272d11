"""The report's curves: how figures went at each site, and what the encoder's rounds were like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from polyward_server.report.drawing import (
    BLUE,
    FAINT,
    LINE,
    MUTED,
    ORANGE,
    Axis,
    Mark,
    Picture,
    Point,
    area,
    axis,
    line,
    mixed,
    path,
    shortened,
    step_of,
    text,
    tick_text,
)
from polyward_server.words import figure

MOST_BEHIND = 12  # lines of other sites behind a plot; more would hide one another
ROOM = 10.0  # between the names of two lines
LOOKS = ((BLUE, "none"), (ORANGE, "4 2.5"))

Known = Mapping[int, tuple[float, float | None, float | None]]  # by round: the value, and its interval if there is one


@dataclass(frozen=True, slots=True)
class Course:
    """How one figure of one site went, of the federated model and of the one that was trained alone."""

    site: str
    federated: Known
    alone: Known


def curves(task: str, courses: Sequence[Course], last: int) -> list[Picture]:
    """One small plot for each site, all on the same axes; the other sites' lines stay behind it, grey."""
    values = [
        bound
        for course in courses
        for known in (course.federated, course.alone)
        for each in known.values()
        for bound in each
        if bound is not None
    ]
    return [_curve(task, place, courses, axis(values, 96, 22), last) for place, _ in enumerate(courses)]


def _curve(task: str, place: int, courses: Sequence[Course], y: Axis, last: int) -> Picture:
    course, width, height = courses[place], 216.0, 118.0
    x = Axis(1, max(last, 2), 30, width - 48)
    marks = [text(30, 11, shortened(course.site, 30), font_weight="bold"), *_frame(x, y, height)]
    if len(courses) <= MOST_BEHIND:
        others = [_runs(other.federated, x, y) for other in courses if other is not course and other.federated]
        marks += [path(runs, LINE, stroke_width="0.9") for runs in others]
    for band in _bands(course.federated):
        lows = [(x.at(number), y.at(low)) for number, low, _ in band]
        highs = [(x.at(number), y.at(high)) for number, _, high in band]
        marks.append(area(lows, highs, mixed(BLUE, 0.22)))
    lines = {name: known for name, known in (("federated", course.federated), ("alone", course.alone)) if known}
    marks += _lines(lines, x, y)
    told = "; ".join(f"{name}: {figure(known[max(known)][0])} in round {max(known)}" for name, known in lines.items())
    title = f"{task} at {course.site}, by round"
    return Picture(f"curve-{task}-{place}", title, told or "not measured", width, height, tuple(marks))


def signal(name: str, title: str, lines: Mapping[str, Mapping[int, float]], last: int) -> Picture:
    """One or two quantities of the encoder by round, from zero on."""
    width, height = 325.0, 132.0
    y = axis((value for known in lines.values() for value in known.values()), 110, 24, zero=True)
    x = Axis(1, max(last, 2), 34, width - 74)
    known_lines: dict[str, Known] = {
        label: {number: (value, None, None) for number, value in known.items()}
        for label, known in lines.items()
        if known
    }
    marks = [text(34, 12, title, font_weight="bold"), *_frame(x, y, height), *_lines(known_lines, x, y)]
    told = "; ".join(
        f"{label}: {figure(known[max(known)][0])} in round {max(known)}" for label, known in known_lines.items()
    )
    return Picture(f"signal-{name}", title, told, width, height, tuple(marks))


def _frame(x: Axis, y: Axis, height: float) -> list[Mark]:
    """The axes: rounds below, with the first and the last one named."""
    marks, ticks = [], y.ticks(3)
    for tick in ticks:
        marks.append(line((x.start, y.at(tick)), (x.end, y.at(tick)), FAINT))
        said = tick_text(tick, step_of(ticks))
        marks.append(text(x.start - 4, y.at(tick) + 3, said, anchor="end", size=9, fill=MUTED))
    marks.append(line((x.start, y.start + 1), (x.end, y.start + 1)))
    between = [
        each for each in x.ticks(4) if each == round(each) and min(each - x.low, x.high - each) * 6 > x.high - x.low
    ]
    marks += [
        text(x.at(tick), height - 8, f"{tick:.0f}", anchor="middle", size=9, fill=MUTED)
        for tick in (x.low, *between, x.high)
    ]
    return marks


def _lines(lines: Mapping[str, Known], x: Axis, y: Axis) -> list[Mark]:
    """Each with its name at its end. The first is drawn last, above the others."""
    marks: list[Mark] = []
    ends: list[float] = []
    for (name, known), (colour, dash) in zip(lines.items(), LOOKS, strict=False):
        look = {"stroke_dasharray": dash} if dash != "none" else {}
        marks.insert(0, path(_runs(known, x, y), colour, stroke_width="1.6", **look))
        end = y.at(known[max(known)][0]) + 3
        if ends and abs(end - ends[0]) < ROOM:
            end = ends[0] + (ROOM if end >= ends[0] else -ROOM)
        ends.append(end)
        marks.append(text(x.at(max(known)) + 4, end, name, size=9, fill=colour))
    return marks


def _runs(known: Known, x: Axis, y: Axis) -> list[list[Point]]:
    """The points in runs: a line ends where the next measurement should have been and is not."""
    return [
        [(x.at(number), y.at(known[number][0])) for number in run] for run in unbroken(sorted(known), _every(known))
    ]


def _bands(known: Known) -> list[list[tuple[int, float, float]]]:
    """The intervals in runs likewise."""
    both = {number: (low, high) for number, (_, low, high) in known.items() if low is not None and high is not None}
    return [[(number, *both[number]) for number in run] for run in unbroken(sorted(both), _every(known))]


def unbroken(numbers: Sequence[int], every: int) -> list[list[int]]:
    """Numbers that rise, cut wherever two are further apart than `every`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number - runs[-1][-1] <= every:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _every(known: Known) -> int:
    """How many rounds lie between two measurements as a rule."""
    return min((after - before for before, after in pairwise(sorted(known))), default=1)
