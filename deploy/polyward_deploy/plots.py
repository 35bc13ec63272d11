"""The report's plots: results -> inline SVG that follows the page's light or dark theme.

Matplotlib draws with marker colours, each of which is then replaced by one of the page's CSS variables, so that the
same drawing fits both themes. Lines differ by colour (after Okabe and Ito, for colour-blind readers) and by marker.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from polyward_deploy.results import ABSENT, FRACTIONS, Results, Row, shown
from polyward_shared.messages import Stage
from polyward_shared.tasks import LOWER_IS_BETTER, METRICS

SERIES = tuple(f"#0000{number:02x}" for number in range(0xA1, 0xA7))  # --series-1 to 6
INK, FAINT, GOOD, BAD = "#0000b1", "#0000b2", "#0000b3", "#0000b4"
THEME = {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)} | {
    INK: "var(--ink)",
    FAINT: "var(--line)",
    GOOD: "var(--better)",
    BAD: "var(--worse)",
}
MARKERS = ("o", "s", "^", "D", "v", "P")
MARKER_SIGNS = ("●", "■", "▲", "◆", "▼", "✚")
LONGEST_NAME = 17
STRONG = 0.2  # the gain that gets the full colour: in the metric's points, or as a share of an error
BOUNDED = FRACTIONS | {
    *("auroc", "macro_auroc", "average_precision", "balanced_accuracy", "macro_f1"),
    *("kappa", "c_index", "cldice"),
}
STYLE: Any = {  # keys of matplotlib's own type
    "svg.fonttype": "none",
    "svg.hashsalt": "polyward",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One field of a heat map: the gain as people read it, and how strong it is, if there is one."""

    site: str
    task: str
    gain: str
    strength: float | None


@dataclass(frozen=True, slots=True)
class Legend:
    """A line's entry beside its plot."""

    site: str
    style: int  # number of its colour and marker, from 0
    sign: str
    counts: str  # test cases


@dataclass(frozen=True, slots=True)
class Curves:
    """One task over the rounds."""

    task: str
    metric: str
    svg: Markup
    legend: tuple[Legend, ...]


def curves(results: Results) -> list[Curves]:
    """A plot for every task that has figures: one colour per site, the same in every plot."""
    style = {site.name: number % len(SERIES) for number, site in enumerate(results.sites)}
    drawn = []
    for task, definition in results.study.tasks.items():
        metric = METRICS[definition.kind][0]
        rows = [r for r in results.rows if r.task == task and r.metric == metric and r.split == "test"]
        sites = [site for site in style if any(row.site == site for row in rows)]
        if not sites:
            continue
        legend = tuple(
            Legend(s, style[s], MARKER_SIGNS[style[s]], _counts(r for r in rows if r.site == s)) for s in sites
        )
        drawn.append(Curves(task, metric, _curve(rows, {s: style[s] for s in sites}, results.study.rounds), legend))
    return drawn


def heat_map(tiles: Iterable[Tile], tasks: Sequence[str], what: str, name: str) -> Markup:
    """Sites down, tasks across; blue where there is a gain, orange where there is a loss. `what` says of what."""
    tiles = list(tiles)
    sites, tasks = list(dict.fromkeys(t.site for t in tiles)), [t for t in tasks if any(c.task == t for c in tiles)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.4 + 1.32 * len(tasks), 0.4 + 0.42 * len(sites)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-1.06, len(tasks)), ylim=(len(sites), -0.85))
        axes.axis("off")
        for column, task in enumerate(tasks):
            axes.text(column + 0.5, -0.3, _short(task), ha="center", va="center")
        for line, site in enumerate(sites):
            axes.text(-1.06, line + 0.5, _short(site), ha="left", va="center")
        for tile in tiles:
            _draw_tile(axes, tile, tasks.index(tile.task), sites.index(tile.site))
        described = [f"{tile.site} {tile.task} {tile.gain}" for tile in tiles if tile.gain != ABSENT]
        return svg(figure, f"{what}: {', '.join(described) or 'none known'}.", name)


def strength(gain: float, metric: str, reference: float) -> float:
    """A gain over a reference as -1 to 1, comparable between metrics."""
    unit = 1.0 if metric in BOUNDED else abs(reference)
    return max(-1.0, min(1.0, gain / (STRONG * unit))) if unit else 0.0


def _draw_tile(axes: Axes, tile: Tile, column: int, line: int) -> None:
    strong = tile.strength
    colour = GOOD if strong and strong > 0 else BAD if strong else FAINT
    opacity = 0.06 + 0.5 * abs(strong) if strong else 0.35
    box: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.06", "mutation_aspect": 2.7, "linewidth": 0}
    place = (column + 0.03, line + 0.07)
    axes.add_patch(FancyBboxPatch(place, 0.94, 0.86, facecolor=colour, alpha=opacity, **box))
    axes.text(column + 0.5, line + 0.5, tile.gain, ha="center", va="center")


def _short(name: str) -> str:
    """As much of a name as a column has room for."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _curve(rows: Sequence[Row], style: Mapping[str, int], rounds: int) -> Markup:
    metric, task = rows[0].metric, rows[0].task
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.7, 2.5))
        axes = figure.add_axes((0.13, 0.13, 0.85, 0.83))
        ends = _ends(rows, list(style), rounds)
        for site, number in style.items():
            own = [row for row in rows if row.site == site]
            look: dict[str, Any] = {"color": SERIES[number], "marker": MARKERS[number], "markersize": 4.5}
            for arm, stage, dashes in (
                ("federated", Stage.RECEIVED, (1, 2)),
                ("local", Stage.TRAINED, (5, 2.5)),
                ("federated", Stage.TRAINED, ()),
            ):
                line = sorted((r.round, r.value) for r in own if (r.arm, r.stage) == (arm, stage))
                plain: dict[str, Any] = {"linewidth": 1.1, "marker": "", "alpha": 0.85}
                kind: dict[str, Any] = {"linewidth": 1.9} if not dashes else {"dashes": dashes, **plain}
                if line:
                    axes.plot(*zip(*line, strict=True), **{**look, **kind})
            for arm, face in (("local", "none"), ("federated", SERIES[number])):
                final = [row for row in own if (row.arm, row.stage) == (arm, Stage.FINAL)]
                axes.plot(
                    [ends[site]] * len(final), [r.value for r in final], linestyle="", markerfacecolor=face, **look
                )
                spans = [(r.low, r.high) for r in final if r.low is not None and r.high is not None]
                if arm == "federated" and spans:
                    axes.vlines([ends[site]] * len(spans), *zip(*spans, strict=True), color=SERIES[number], linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ticks = [t for t in axes.get_xticks() if 1 <= t <= rounds]
        last = max(ends.values())
        axes.set_xticks([*ticks, (rounds + 0.8 + last) / 2], [*(f"{t:.0f}" for t in ticks), "end"])
        axes.set_xlim(0.6, last + 0.3)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        return svg(figure, _described(rows, style, metric), f"curve-{task}")


def _ends(rows: Sequence[Row], sites: Sequence[str], rounds: int) -> dict[str, float]:
    """Where the final figures of each site stand: above one another, or side by side where they have bars."""
    step = 0.025 * (rounds + 0.5) if any(row.low is not None for row in rows) else 0.0
    return {site: rounds + 0.8 + step * place for place, site in enumerate(sites)}


def _described(rows: Sequence[Row], sites: Iterable[str], metric: str) -> str:
    better = "lower" if metric in LOWER_IS_BETTER else "higher"
    parts = []
    for site in sites:
        line = sorted(
            (r.round, r.value) for r in rows if (r.arm, r.stage, r.site) == ("federated", Stage.TRAINED, site)
        )
        if line:
            parts.append(
                f"{site} from {shown(line[0][1])} in round {line[0][0]} to {shown(line[-1][1])} in {line[-1][0]}"
            )
    return f"Test {metric} of task {rows[0].task} over the rounds, {better} is better. Federated: {'; '.join(parts)}."


def _counts(rows: Iterable[Row]) -> str:
    counts = {row.count for row in rows}
    return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def svg(figure: Figure, description: str, name: str) -> Markup:
    """The drawing as an element of a page: colours from the theme, ids of its own, no namespaces to fetch."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    text = buffer.getvalue()
    width, height = (round(72 * side) for side in figure.get_size_inches())
    body = re.sub(r"<metadata>.*?</metadata>", "", text[text.index(">", text.index("<svg")) + 1 :], flags=re.DOTALL)
    body = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{escape(name)}-", body)
    body = re.sub("#0000[ab][0-9]", lambda found: THEME[found[0]], body)
    body = re.sub(r"font: [^;\"]*'[^;\"]*(?=[;\"])", "font: 10px var(--font)", body)
    opening = f'<svg role="img" viewBox="0 0 {width} {height}" width="{4 / 3 * width:.0f}" aria-label="'
    return Markup(opening) + description + Markup(f'">{body}')  # noqa: S704  matplotlib escaped the names in it
