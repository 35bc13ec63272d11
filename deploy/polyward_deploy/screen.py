"""What a person sees while a simulation runs: a bar for each arm, a line for each site, a line for each round."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from polyward_client.port.interface import Progress as Work
from polyward_deploy.arms import Arm
from polyward_deploy.simulate import Watch
from polyward_server.cli.studies import sentence
from polyward_server.records import Event

TITLES: dict[Arm, str] = {
    "federated": "federated encoder",
    "local": "each site alone",
    "fedavg": "full FedAvg",
}
TROUBLE = frozenset({"refused", "misfit", "missed", "differs", "waiting", "shortened", "outlier"})  # said of every arm


def bars(console: Console) -> Progress:
    """Bars with a count, the time so far, and each task's `note`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class Screen:
    """Shows what happens to `arms` of a study with these sites; use as a context manager and give `watch` away."""

    def __init__(self, console: Console, arms: Sequence[Arm], sites: Iterable[str], rounds: int) -> None:
        self._progress = bars(console)
        names = list(sites)
        self._bars: dict[Arm, TaskID] = {}
        for arm in arms:
            total = rounds * len(names) if arm == "local" else rounds
            self._bars[arm] = self._progress.add_task(TITLES[arm], total=total, start=False, note="")
        self._lines = {name: self._progress.add_task(f"  {name}", total=None, start=False, note="") for name in names}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines.values():
            self._progress.remove_task(line)
        self._progress.stop()

    @property
    def watch(self) -> Watch:
        return Watch(event=self._event, progress=self._work)

    def _event(self, arm: Arm, event: Event) -> None:
        bar = self._bars[arm]
        with self._lock:
            self._progress.start_task(bar)
            if event.what == "committed" and event.round:
                self._progress.advance(bar)
            if line := sentence(event) if arm == "federated" or event.what in TROUBLE else "":
                self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _work(self, arm: Arm, site: str, work: Work) -> None:
        epochs = f" {work.epoch}/{work.epochs}" if work.epochs else ""
        loss = f"  loss {work.loss:.3f}" if work.loss is not None else ""
        with self._lock:
            self._progress.update(self._lines[site], note=f"{TITLES[arm]}: {work.phase}{epochs}{loss}")
