"""A comparison of topologies as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyward_deploy.results import ABSENT, SHORT, shown
from polyward_deploy.topologies.averages import (
    CLEAR,
    REFERENCE,
    Average,
    Line,
    caveat,
    sentences,
    site_lines,
    task_lines,
)
from polyward_deploy.topologies.plan import Arrangement
from polyward_deploy.topologies.runs import Comparison
from polyward_shared.tasks import LOWER_IS_BETTER


def print_comparison(console: Console, comparison: Comparison) -> None:
    """The tables on a terminal: mean with the deviation below it, best in bold."""
    names = comparison.arrangements
    seeds = ", ".join(map(str, comparison.seeds))
    over = f"mean ± standard deviation over seeds {seeds}" if comparison.seeds[1:] else f"seed {seeds}"
    console.print(f"[bold]Test figures at the end, {over}[/]", highlight=False)
    grid = _grid("site and task", names)
    for site, group in groupby(site_lines(comparison), lambda line: line.site):
        grid.add_row(f"[bold]{escape(site)}[/]")
        for line in group:
            grid.add_row(*_row(line, names))
        grid.add_section()
    console.print(grid)
    console.print("[bold]Mean over sites, weighted by test cases; gains are differences seed by seed[/]")
    grid = _grid("task", names)
    for line in task_lines(comparison):
        grid.add_row(*_row(line, names))
        if line.gains:
            grid.add_row(f"    gain over {REFERENCE}", *(_gain(line, name) for name in names))
        grid.add_section()
    console.print(grid)
    for sentence in sentences(comparison):
        console.print(sentence, highlight=False, markup=False)
    directions = "↑ higher is better, ↓ lower is better; a positive gain is always better."
    console.print(f"{directions} {caveat(comparison)}", style="dim", highlight=False)


def _grid(first: str, names: Iterable[Arrangement]) -> Table:
    grid = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False, collapse_padding=True)
    grid.add_column(first, no_wrap=True)
    for name in names:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _row(line: Line, names: Iterable[Arrangement]) -> list[str]:
    arrow = "↓" if line.metric in LOWER_IS_BETTER else "↑"
    cases = ABSENT if line.count is None else str(line.count)
    figures = []
    for name in names:
        given = line.averages.get(name)
        text = ABSENT if given is None else shown(given.mean, line.digits)
        figures.append((f"[bold]{text}[/]" if name in line.best else text) + _below(given, line))
    return [f"  {escape(line.task)}\n    {SHORT.get(line.metric, line.metric)}{arrow}  n = {cases}", *figures]


def _below(given: Average | None, line: Line) -> str:
    """The deviation, and how many seeds have a figure where some have none."""
    if given is None:
        return ""
    spread = "" if given.sd is None else f"\n±{shown(given.sd, line.digits)}"
    return spread + (f"\nof {given.seeds}" if given.seeds < line.seeds else "")


def _gain(line: Line, name: Arrangement) -> str:
    """In colour only where it is clear: the rest may be chance."""
    gain = line.gains.get(name)
    if gain is None:
        return ABSENT
    text = shown(gain.mean, line.digits, signed=True)
    if gain.clear:
        text = f"[{'green' if gain.mean > 0 else 'red'}]{text}{CLEAR}[/]"
    return text + _below(gain, line)
