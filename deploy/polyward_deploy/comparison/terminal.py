"""A comparison as tables on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyward_deploy.comparison.averages import (
    CLEAR,
    Average,
    Line,
    caveat,
    plus_minus,
    sentences,
    site_lines,
    task_lines,
)
from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.comparison.ranks import Ranks, Summary, ranks, summaries
from polyward_deploy.pages import amount, duration
from polyward_deploy.results import ABSENT, SHORT, shown
from polyward_shared.tasks import arrow

FIRST, COLUMN = 23, 11  # columns of the terminal for a line's name and for each variation


def print_comparison(console: Console, comparison: Comparison) -> None:
    """The tables on a terminal: mean with the deviation below it, best in bold; then a line for each variation."""
    seeds = ", ".join(map(str, comparison.seeds))
    over = f"mean ± standard deviation over seeds {seeds}" if comparison.seeds[1:] else f"seed {seeds}"
    console.print(f"[bold]Test figures at the end, {over}[/]", highlight=False)
    lines = site_lines(comparison)
    for names in _across(console, comparison.names):
        grid = _grid("site and task", names)
        for site, group in groupby(lines, lambda line: line.site):
            grid.add_row(f"[bold]{escape(site)}[/]")
            for line in group:
                grid.add_row(*_row(line, names))
            grid.add_section()
        console.print(grid)
    console.print("[bold]Mean over sites, weighted by test cases; gains are differences seed by seed[/]")
    lines = task_lines(comparison)
    for names in _across(console, comparison.names):
        grid = _grid("task", names)
        for line in lines:
            grid.add_row(*_row(line, names))
            if line.gains:
                grid.add_row(f"    gain over {comparison.reference}", *(_gain(line, name) for name in names))
            grid.add_section()
        console.print(grid)
    _print_summaries(console, comparison)
    for sentence in sentences(comparison):
        console.print(sentence, highlight=False, markup=False)
    directions = "↑ higher is better, ↓ lower is better; a positive gain is always better."
    console.print(f"{directions} {caveat(comparison)}", style="dim", highlight=False, markup=False)
    for failure in comparison.failures:
        console.print(f"failed: {failure}", style="red", highlight=False, markup=False)


def _print_summaries(console: Console, comparison: Comparison) -> None:
    found, ranked = summaries(comparison), ranks(comparison)
    against = comparison.reference
    if against in comparison.names:
        console.print(f"[bold]Against {against}: cells of site and task that are better and worse[/]")
    grid = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False, collapse_padding=True)
    grid.add_column(comparison.subject.one, no_wrap=True)
    for heading in ("better", "worse", "Δ %", "rank", "down", "up", "time"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        grid.add_row(*_summary(each, against))
    console.print(grid)
    if any(each.worst for each in found):
        console.print(_worst_sites(comparison, found))
    console.print(rank_sentence(ranked), style="dim", highlight=False)


def _summary(each: Summary, against: str) -> list[str]:
    spent = [amount(each.bytes_down), amount(each.bytes_up), duration(each.seconds)]
    rank = ABSENT if each.rank is None else f"{each.rank:.2f}"
    if each.name == against or not each.cells:
        return [escape(each.name), ABSENT, ABSENT, ABSENT, rank, *spent]
    delta = ABSENT if each.delta is None else plus_minus(each.delta, 1, signed=True).replace(" ± ", "\n±")
    better, worse = (
        f"{count}\n{clear}{CLEAR}" if clear else str(count)
        for count, clear in ((each.better, each.clearly_better), (each.worse, each.clearly_worse))
    )
    return [escape(each.name), better, worse, delta, rank, *spent]


def _worst_sites(comparison: Comparison, found: Iterable[Summary]) -> Table:
    grid = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False, collapse_padding=True)
    grid.add_column(comparison.subject.one, no_wrap=True)
    grid.add_column("worst site", overflow="fold")
    for heading in ("its Δ %", "sites that gain"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        if each.worst is not None:
            site, delta = each.worst
            gaining = f"{each.sites_gaining} of {each.sites}"
            grid.add_row(escape(each.name), escape(site), shown(delta, 1, signed=True), gaining)
    return grid


def rank_sentence(ranked: Ranks) -> str:
    """How far ranks must lie apart, and what stands against believing it."""
    if not ranked.enough:
        return f"Ranks over {ranked.blocks} blocks of site, task and seed: too few to tell methods apart by ranks."
    return (
        f"Mean ranks over {ranked.blocks} blocks of site, task and seed, 1 the best; Nemenyi's critical difference "
        f"at the level of 5 percent is {ranked.critical:.2f}. It takes blocks for independent; those of one site, and "
        "seeds of one cell, are not, so the true one is larger."
    )


def _across(console: Console, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The variations in as few tables as the terminal has room for, about as many in each."""
    tables = math.ceil(len(names) / max(1, (console.width - FIRST) // COLUMN))
    for number in range(tables):
        yield names[number * len(names) // tables : (number + 1) * len(names) // tables]


def _grid(first: str, names: Iterable[str]) -> Table:
    grid = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False, collapse_padding=True)
    grid.add_column(first, no_wrap=True)
    for name in names:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _row(line: Line, names: Iterable[str]) -> list[str]:
    cases = ABSENT if line.count is None else str(line.count)
    figures = []
    for name in names:
        given = line.averages.get(name)
        text = ABSENT if given is None else shown(given.mean, line.digits)
        figures.append((f"[bold]{text}[/]" if name in line.best else text) + _below(given, line))
    return [
        f"  {escape(line.task)}\n    {SHORT.get(line.metric, line.metric)}{arrow(line.metric)}  n = {cases}",
        *figures,
    ]


def _below(given: Average | None, line: Line) -> str:
    """The deviation, and how many seeds have a figure where some have none."""
    if given is None:
        return ""
    spread = "" if given.sd is None else f"\n±{shown(given.sd, line.digits)}"
    return spread + (f"\nof {given.seeds}" if given.seeds < line.seeds else "")


def _gain(line: Line, name: str) -> str:
    """In colour only where it is clear: the rest may be chance."""
    gain = line.gains.get(name)
    if gain is None:
        return ABSENT
    text = shown(gain.mean, line.digits, signed=True)
    if gain.clear:
        text = f"[{'green' if gain.mean > 0 else 'red'}]{text}{CLEAR}[/]"
    return text + _below(gain, line)
