"""A comparison of topologies -> one HTML page that needs nothing else, in the dress of the report's page."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from polyward_deploy.pages import date, template, written
from polyward_deploy.plots import INK, MARKERS, SERIES, STYLE, svg
from polyward_deploy.results import ABSENT
from polyward_deploy.topologies.averages import (
    CLEAR,
    REFERENCE,
    Line,
    caveat,
    plus_minus,
    sentences,
    site_lines,
    task_lines,
    weighted_means,
)
from polyward_deploy.topologies.plan import ARRANGEMENTS
from polyward_deploy.topologies.runs import Comparison

STEP = 0.08  # between the points of two seeds
BAR = 0.3  # how far the bar of the mean stands from the points


def write_page(folder: Path, comparison: Comparison) -> Path:
    """Writes `topologies.html` into the folder and returns its path."""
    return written(folder, "topologies.html", page(comparison))


def page(comparison: Comparison) -> str:
    """The page's text; the same comparison gives the same text."""
    tasks = task_lines(comparison)
    return template("topologies.html.j2").render(
        comparison=comparison,
        study=comparison.study,
        started=date(comparison.started),
        absent=ABSENT,
        clear=CLEAR,
        reference=REFERENCE,
        names=comparison.arrangements,
        by_site=[(site, list(group)) for site, group in groupby(site_lines(comparison), lambda line: line.site)],
        tasks=tasks,
        plots=[(line, plot(comparison, line)) for line in tasks if line.averages],
        sentences=sentences(comparison),
        caveat=caveat(comparison),
        settings=json.dumps(comparison.study.model_dump(mode="json"), indent=2, ensure_ascii=False),
    )


def plot(comparison: Comparison, line: Line) -> Markup:
    """One task: a small point for each seed, beside them the mean with a bar of one standard deviation each way."""
    figures = weighted_means(comparison, line.task)
    names = [name for name in comparison.arrangements if name in line.averages]
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(4.6, 2.6))
        axes = drawing.add_axes((0.13, 0.13, 0.85, 0.82))
        for place, name in enumerate(names):
            style = ARRANGEMENTS.index(name)
            look: dict[str, Any] = {"color": SERIES[style], "marker": MARKERS[style], "linestyle": ""}
            values = [figures[name, seed] for seed in comparison.seeds]
            middle = (len(values) - 1) / 2
            across = [place + STEP * (number - middle) for number in range(len(values))]
            axes.plot(across, values, **look, markersize=4.5, alpha=0.6)
            each = line.averages[name]
            axes.errorbar([place + BAR], [each.mean], yerr=[each.sd or 0.0], **look, markersize=7, elinewidth=1.4)
        if REFERENCE in line.averages:
            axes.axhline(line.averages[REFERENCE].mean, color=INK, linewidth=0.8, dashes=(4, 3), alpha=0.6)
        axes.set_xticks([place + BAR / 2 for place in range(len(names))], names)
        axes.set_xlim(-0.4, len(names) - 0.3)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        described = ", ".join(f"{name} {plus_minus(line.averages[name], line.digits)}" for name in names)
        return svg(drawing, f"Test {line.metric} of task {line.task}: {described}.", f"topology-{line.task}")
