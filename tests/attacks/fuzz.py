"""`python -m tests.attacks.fuzz [--minutes M] [--seed S] [NAME ...]`: every parser against what hypothesis makes up.

A parser returns a value or refuses in the one way that it documents, within bounded time and memory; anything else is
printed with the smallest input that shows it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from rich.console import Console
from rich.table import Table

from tests.attacks.parsers import REFUSED, Parser, all_parsers

SLOWEST_SECONDS = 5.0  # of one input, on a machine that is busy with other things
MOST_MEGABYTES = 2000  # that one parser's inputs may add to the process's largest size
AT_ONCE = 500


@dataclass
class Tally:
    """What became of one parser's inputs."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    megabytes: float = 0.0
    failure: str = ""

    @property
    def tried(self) -> int:
        return self.accepted + self.refused


def fuzz(parser: Parser, examples: int, number: int, tally: Tally) -> None:
    """Tries so many inputs. Raises what a parser raises that it should not, with hypothesis' note of the input."""

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(parser.inputs)
    def tried(data: Any) -> None:
        began = time.perf_counter()
        try:
            refused = parser.parse(data) is REFUSED
        except parser.refusals:
            refused = True
        seconds = time.perf_counter() - began
        tally.slowest = max(tally.slowest, seconds)
        tally.refused += refused
        tally.accepted += not refused
        assert seconds < SLOWEST_SECONDS

    before = _megabytes()
    tried()
    tally.megabytes = max(tally.megabytes, _megabytes() - before)
    assert tally.megabytes < MOST_MEGABYTES


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.attacks.fuzz", description="Fuzzes every parser.")
    options.add_argument("--minutes", type=float, default=1.0, help="for all parsers together")
    options.add_argument("--seed", type=int, default=0, help="of the first inputs; other seeds, other inputs")
    options.add_argument("names", nargs="*", help="parsers whose names begin so; all without")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="polyward-fuzz-") as folder, all_parsers(Path(folder)) as parsers:
        wanted = [each for each in parsers if not chosen.names or each.name.startswith(tuple(chosen.names))]
        for parser in wanted:
            tally = tallies.setdefault(parser.name, Tally())
            until = time.monotonic() + 60 * chosen.minutes / len(wanted)
            number = chosen.seed
            while time.monotonic() < until and not tally.failure:
                try:
                    fuzz(parser, AT_ONCE, number, tally)
                except Exception as error:  # whatever it is, it is what is looked for
                    tally.failure = f"{type(error).__name__}: {error}; " + " ".join(getattr(error, "__notes__", []))
                number += 1
    show(tallies)
    return int(any(tally.failure for tally in tallies.values()))


def show(tallies: dict[str, Tally]) -> None:
    """The table, and below it what was found."""
    table = Table(title="inputs tried")
    for heading in ("parser", "tried", "accepted", "refused", "slowest", "memory"):
        table.add_column(heading, justify="left" if heading == "parser" else "right")
    for name, tally in tallies.items():
        row = (f"{tally.tried:,}", f"{tally.accepted:,}", f"{tally.refused:,}")
        table.add_row(name, *row, f"{1e3 * tally.slowest:.1f} ms", f"{tally.megabytes:.0f} MB")
    total = sum(tally.tried for tally in tallies.values())
    table.add_section()
    table.add_row("all", f"{total:,}", *(["", "", "", ""]))
    console = Console()
    console.print(table)
    for name, tally in tallies.items():
        if tally.failure:
            console.print(f"{name}: {tally.failure[:2000]}", markup=False)


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
