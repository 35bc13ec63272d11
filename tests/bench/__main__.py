"""`python -m tests.bench`: measures against plain Flower, prints a table, writes it as JSON and Markdown."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from rich.console import Console

from polyward_shared.problems import Problem
from tests.bench import machine, report
from tests.bench.rows import Row
from tests.bench.scale import Scale, Step

BENCHES = ("tiny", "large", "simulation", "demo", "resilience", "throughput", "balancers", "watching", "containers")
console = Console()


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves every block, so every process is ended
    described, rows, loads = machine.description(), list[Row](), dict[str, float]()
    notes = ["small sizes (--quick): these figures show that the bench runs and nothing else"] if options.quick else []
    failed = False
    for name in options.names or BENCHES:
        loads[name] = machine.load()
        with tempfile.TemporaryDirectory(prefix="polyward-bench-") as folder:
            try:
                rows += _bench(name)(Path(folder), Scale(options.quick), _step(name))
            except Problem as problem:
                failed = True
                notes.append(f"{name}: not measured, {problem.where}: {problem.found.splitlines()[0]}")
                console.print(f"[red]{name}[/]: {problem}")
        report.write(options.out, described, rows, notes, loads)
    report.show(console, rows)
    console.print(f"written: {options.out / 'bench.md'}")
    return 1 if failed else 0


def _bench(name: str) -> Callable[[Path, Scale, Step], list[Row]]:
    run: Callable[[Path, Scale, Step], list[Row]] = import_module(f"tests.bench.{name}").run
    return run


def _step(bench: str) -> Step:
    began = time.monotonic()
    return lambda text: console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  [bold]{bench}[/]  {text}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if absent: {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the bench itself")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where the table goes")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(BENCHES)):
        parser.error(f"unknown: {', '.join(unknown)}; expected {', '.join(BENCHES)}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)
