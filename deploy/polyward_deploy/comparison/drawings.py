"""A comparison's plots, in the dress of the report's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from polyward_deploy.comparison.averages import (
    CLEAR,
    Average,
    Line,
    average,
    plus_minus,
    site_lines,
    weighted_means,
    whole_sites,
)
from polyward_deploy.comparison.figures import Comparison, Point
from polyward_deploy.comparison.ranks import Ranks
from polyward_deploy.plots import INK, MARKER_SIGNS, MARKERS, SERIES, STYLE, Tile, heat_map, strength, svg
from polyward_deploy.results import shown
from polyward_shared.tasks import LOWER_IS_BETTER

STEP = 0.09  # between the points of two seeds
AT_ONCE = 5  # lines in one plot, besides the reference
HEIGHT, MARGIN = 0.3, 0.55  # of a line, and of the axis with its labels, in inches
LETTER = 0.082  # width of a letter, in inches


@dataclass(frozen=True, slots=True)
class Dot:
    """A line of a plot: a middle, the ends of its bar, if it has one, and the points of seeds, if they are shown."""

    name: str
    middle: float
    bar: tuple[float, float] | None
    points: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """A line's entry beside a plot of several."""

    name: str
    style: int  # number of its colour, from 0
    sign: str


@dataclass(frozen=True, slots=True)
class Course:
    """One task over the rounds, by some of the variations and the reference."""

    task: str
    metric: str
    svg: Markup
    keys: tuple[Key, ...]


def heat_maps(comparison: Comparison) -> Iterator[tuple[str, Markup]]:
    """For every variation the gain over the reference in every cell that has one."""
    lines = site_lines(comparison)
    for name in comparison.names:
        tiles = [_tile(line, name, comparison.reference) for line in lines if name in line.gains]
        if tiles:
            what = f"Gain of {name} over {comparison.reference}"
            yield name, heat_map(tiles, list(comparison.owners), what, f"gain-{name}")


def _tile(line: Line, name: str, reference: str) -> Tile:
    gain = line.gains[name]
    text = shown(gain.mean, line.digits, signed=True) + (CLEAR if gain.clear else "")
    return Tile(line.site, line.task, text, strength(gain.mean, line.metric, line.averages[reference].mean))


def seeds_plot(comparison: Comparison, line: Line) -> Markup:
    """One task: a small point for each seed, and the mean with a bar of one standard deviation each way."""
    figures = weighted_means(comparison, line.task)
    dots = [
        Dot(name, each.mean, _around(each), tuple(figures[name, seed] for seed in comparison.seeds))
        for name, each in line.averages.items()
    ]
    described = ", ".join(f"{name} {plus_minus(each, line.digits)}" for name, each in line.averages.items())
    at = line.averages.get(comparison.reference)
    return _dots(
        comparison,
        dots,
        f"Test {line.metric} of task {line.task}: {described}.",
        f"seeds-{line.task}",
        line=None if at is None else at.mean,
    )


def gains_plot(comparison: Comparison, line: Line) -> Markup:
    """One task: each variation's gain over the reference, with its 95 % interval."""
    dots = [Dot(name, gain.mean, gain.interval) for name, gain in line.gains.items()]
    described = ", ".join(
        f"{name} {shown(gain.mean, line.digits, signed=True)}"
        + (f" ({' to '.join(shown(end, line.digits, signed=True) for end in gain.interval)})" if gain.interval else "")
        for name, gain in line.gains.items()
    )
    text = f"Gain over {comparison.reference} in task {line.task}, 95-percent intervals: {described}."
    return _dots(comparison, dots, text, f"gains-{line.task}", line=0.0)


def ranks_plot(comparison: Comparison, ranks: Ranks) -> Markup:
    """Mean ranks, the best above; two differ if their bars, each half the critical difference long, do not meet."""
    half = ranks.critical / 2
    dots = [
        Dot(name, mean, (mean - half, mean + half))
        for name, mean in sorted(ranks.mean.items(), key=lambda each: each[1])
    ]
    described = ", ".join(f"{dot.name} {dot.middle:.2f}" for dot in dots)
    text = f"Mean ranks, critical difference {ranks.critical:.2f}: {described}."
    return _dots(comparison, dots, text, "ranks", line=None)


def courses(comparison: Comparison) -> Iterator[Course]:
    """For every task its weighted mean over the rounds: the variations a few at a time, always with the reference."""
    for task in comparison.owners:
        ends = weighted_means(comparison, task)
        means = _by_round(comparison, task)
        others = [name for name in comparison.names if name != comparison.reference]
        for start in range(0, len(others), AT_ONCE):
            some = [name for name in others[start : start + AT_ONCE] if name in means]
            if not some:
                continue
            some = [name for name in (comparison.reference, *some) if name in means]
            keys = tuple(Key(name, *_look(comparison, name)) for name in some)
            drawn = _course(comparison, task, {name: means[name] for name in some}, ends, f"{task}-{start}")
            yield Course(task, comparison.metric(task), drawn, keys)


def _by_round(comparison: Comparison, task: str) -> dict[str, dict[int, Average]]:
    """By variation and round: the task's mean over the sites that have it to the end, over all seeds."""
    wanted = {each.site for each in whole_sites(comparison, task)}
    found: dict[tuple[str, int, int], list[Point]] = defaultdict(list)
    for each in comparison.course:
        if each.task == task and each.site in wanted:
            found[each.variation, each.round, each.seed].append(each)
    seeds: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (name, number, _), points in found.items():
        if len(points) == len(wanted):
            seeds[name, number].append(sum(p.value * p.count for p in points) / sum(p.count for p in points))
    means: dict[str, dict[int, Average]] = defaultdict(dict)
    for (name, number), values in sorted(seeds.items(), key=lambda each: each[0][1]):
        if len(values) == len(comparison.seeds):
            means[name][number] = average(values)
    return means


def _course(
    comparison: Comparison,
    task: str,
    means: Mapping[str, Mapping[int, Average]],
    ends: Mapping[tuple[str, int], float],
    name: str,
) -> Markup:
    rounds = comparison.study.rounds
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(3.9, 2.6))
        axes = drawing.add_axes((0.14, 0.13, 0.84, 0.83))
        for each, line in means.items():
            colour, marker = _drawn(comparison, each)
            dashes: dict[str, Any] = {"dashes": (5, 2.5)} if each == comparison.reference else {}
            axes.plot(list(line), [at.mean for at in line.values()], color=colour, linewidth=1.6, **dashes)
            if len(comparison.seeds) > 1:
                low, high = zip(*(_around(at) or (at.mean, at.mean) for at in line.values()), strict=True)
                axes.fill_between(list(line), low, high, color=colour, alpha=0.13, linewidth=0)
            end = average([ends[each, seed] for seed in comparison.seeds])
            axes.plot([rounds + 0.8], [end.mean], linestyle="", color=colour, marker=marker, markersize=5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ticks = [tick for tick in axes.get_xticks() if 1 <= tick <= rounds]
        axes.set_xticks([*ticks, rounds + 0.8], [*(f"{tick:.0f}" for tick in ticks), "end"])
        axes.set_xlim(0.6, rounds + 1.2)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        better = "lower" if comparison.metric(task) in LOWER_IS_BETTER else "higher"
        described = "; ".join(
            f"{each} from {shown(next(iter(line.values())).mean)} to {shown(list(line.values())[-1].mean)}"
            for each, line in means.items()
        )
        text = f"Test {comparison.metric(task)} of task {task} over the rounds, {better} is better. {described}."
        return svg(drawing, text, f"course-{name}")


def _dots(comparison: Comparison, dots: Sequence[Dot], text: str, name: str, *, line: float | None) -> Markup:
    """A line for each dot, from above; dashed where `line` says."""
    left = 0.15 + LETTER * max((len(dot.name) for dot in dots), default=0)
    height = MARGIN + HEIGHT * len(dots)
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        drawing = Drawing(figsize=(4.6, height))
        axes = drawing.add_axes((left / 4.6, (MARGIN - 0.2) / height, 0.97 - left / 4.6, 1 - MARGIN / height))
        for place, dot in enumerate(dots):
            colour, marker = _drawn(comparison, dot.name)
            _draw(axes, dot, place, {"color": colour, "marker": marker})
        if line is not None:
            axes.axvline(line, color=INK, linewidth=0.8, dashes=(4, 3), alpha=0.6)
        axes.set_yticks(range(len(dots)), [dot.name for dot in dots])
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return svg(drawing, text, name)


def _draw(axes: Axes, dot: Dot, place: int, look: dict[str, Any]) -> None:
    middle = (len(dot.points) - 1) / 2
    heights = [place + STEP * (seed - middle) for seed in range(len(dot.points))]
    axes.plot(dot.points, heights, **look, linestyle="", markersize=3.5, alpha=0.45)
    if dot.bar is not None:
        axes.hlines(place, *dot.bar, color=look["color"], linewidth=1.6)
    axes.plot([dot.middle], [place], **look, linestyle="", markersize=6.5)


def _around(each: Average) -> tuple[float, float] | None:
    return None if each.sd is None else (each.mean - each.sd, each.mean + each.sd)


def _look(comparison: Comparison, name: str) -> tuple[int, str]:
    """Number of the colour, and the sign; those of the reference stand for themselves."""
    if name == comparison.reference:
        return len(SERIES), "╌"
    others = [each for each in comparison.names if each != comparison.reference]
    number = others.index(name) % AT_ONCE
    return number, MARKER_SIGNS[number]


def _drawn(comparison: Comparison, name: str) -> tuple[str, str]:
    """Colour and marker in matplotlib's terms."""
    number, _ = _look(comparison, name)
    return (INK, "x") if number == len(SERIES) else (SERIES[number], MARKERS[number])
