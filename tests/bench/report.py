"""The table of figures: on the screen, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.rows import Row

HEADINGS = ("bench", "what", "figure", "compared with", "ratio", "budget", "met")
LEGEND = (
    "Seconds are medians, with the extremes in brackets. Figures of one bench come from one run on one machine; the "
    "ratio, not the figure, is what to compare between machines. `compared with` is plain Flower unless it says "
    "something else."
)


def write(
    folder: Path, machine: Mapping[str, str], rows: Sequence[Row], notes: Sequence[str], loads: Mapping[str, float]
) -> None:
    """`bench.json` for programs and `bench.md` for people; written after each bench, so that a stop loses little."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "machine": dict(machine),
        "load_before": dict(loads),
        "notes": [*notes],
        "rows": [r.to_json() for r in rows],
    }
    (folder / "bench.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    lines = ["# Figures of this machine", "", LEGEND, ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += ["", f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    lines += ["", "1-minute load before each bench: " + ", ".join(f"{k} {v:.2f}" for k, v in loads.items()), ""]
    lines += [f"- {note}" for note in notes]
    (folder / "bench.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def show(console: Console, rows: Sequence[Row]) -> None:
    """The same table for the screen."""
    table = Table(title="figures of this machine")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in {"bench", "what"} else "right")
    for row in rows:
        style = {True: "green", False: "red", None: ""}[row.met]
        table.add_row(*_cells(row), style=style)
    console.print(table)


def _cells(row: Row) -> list[str]:
    figure = f"{_number(row.value)} {row.unit}"
    if row.low is not None and row.high is not None and row.count > 1:
        figure += f" ({_number(row.low)} to {_number(row.high)}, n={row.count})"
    compared = ""
    if row.yardstick is not None:
        name = "" if row.yardstick_name == "plain Flower" else f", {row.yardstick_name}"
        compared = f"{_number(row.yardstick)} {row.unit}{name}"
    ratio = f"{row.ratio:.3f}" if row.ratio is not None else ""
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return [row.bench, row.what, figure, compared, ratio, str(row.budget or ""), met]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
