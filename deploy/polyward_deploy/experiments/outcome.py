"""What an experiment found, whatever it is about: figures, pass marks and tables, as files and on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from polyward_deploy.results import write_csv
from polyward_shared.reading import Frozen

VERDICTS = {True: "[green]met[/]", False: "[red]missed[/]"}
SHOWN_VERSIONS = ("polyward", "flwr", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of one run. No `site`: of all together; `round` where it is about one."""

    setting: str
    method: str
    seed: int
    name: str
    value: float
    site: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the experiment must show."""

    what: str
    found: str
    wanted: str
    met: bool


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as people read it: the first column names the line, the others hold figures."""

    title: str
    lead: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


class Outcome(Frozen):
    """Everything that an experiment leaves to be read."""

    name: str
    title: str
    lead: str
    generated: str  # what a program drew, in a sentence; empty where the data are real
    source: str  # where set-up and expected figures come from
    started: str  # date and time as ISO 8601
    seconds: float  # of all runs together
    machine: str
    software: dict[str, str]
    seeds: tuple[int, ...]
    marks: tuple[Mark, ...]
    sheets: tuple[Sheet, ...]
    notes: tuple[str, ...]
    figures: tuple[Figure, ...]

    @property
    def passed(self) -> bool:
        return all(mark.met for mark in self.marks)


def circumstances() -> dict[str, object]:
    """When, on which machine and with which software: fields of an `Outcome`."""
    from polyward_deploy.compare import machine  # imports torch, which the runs' processes can do without

    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "software": {name: version(name) for name in SHOWN_VERSIONS},
    }


def values_of(
    figures: Iterable[Figure], name: str, *, setting: str, method: str, round: int = 0
) -> dict[tuple[int, str], float]:
    """The values of a figure by seed and site."""
    wanted = (name, setting, method, round)
    return {(f.seed, f.site): f.value for f in figures if (f.name, f.setting, f.method, f.round) == wanted}


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """`results.json` with everything, `results.csv` with every figure."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(outcome.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_csv(folder / "results.csv", [field.name for field in fields(Figure)], map(astuple, outcome.figures))


def print_outcome(console: Console, outcome: Outcome) -> None:
    """The tables, the notes, and which marks are met."""
    console.print(f"[bold]{outcome.title}[/]", highlight=False)
    if outcome.generated:
        console.print(outcome.generated, style="yellow", highlight=False)
    for sheet in outcome.sheets:
        _print_sheet(console, sheet.title, sheet.head, sheet.lines)
    for note in outcome.notes:
        console.print(note, style="dim", highlight=False, markup=False)
    if outcome.marks:
        said = [(each.what, each.found, each.wanted, VERDICTS[each.met]) for each in outcome.marks]
        _print_sheet(console, "Pass marks", ("mark", "found", "wanted", ""), said)


def _print_sheet(console: Console, title: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    grid = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False, collapse_padding=True)
    for place, heading in enumerate(head):
        grid.add_column(heading, justify="right" if place else "left")
    for line in lines:
        grid.add_row(*line)
    console.print(f"[bold]{title}[/]", highlight=False)
    console.print(grid)
