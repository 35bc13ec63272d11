"""The runs of a comparison of topologies: trains those that are not finished, and reads what all have left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

from rich.console import Console

from polyward_client.site import read_site
from polyward_deploy.compare import collect
from polyward_deploy.results import Results, table
from polyward_deploy.screen import TROUBLE, bars
from polyward_deploy.simulate import Watch, run_arm
from polyward_deploy.topologies.plan import Arrangement, Run, planned, same_comparison, titled
from polyward_server.cli import sentence
from polyward_server.ledger import Event
from polyward_shared.reading import Frozen
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS


@dataclass(frozen=True, slots=True)
class Figure:
    """A task's primary metric on a site's test split at the end of a run, over `count` cases."""

    arrangement: Arrangement
    seed: int
    site: str
    task: str
    metric: str
    value: float
    count: int


class Comparison(Frozen):
    """Everything that a comparison leaves to be read. `study` is the given one, `seconds` the rounds of all runs."""

    study: Study
    arrangements: tuple[Arrangement, ...]
    seeds: tuple[int, ...]
    started: str  # date and time as ISO 8601
    seconds: float
    machine: str
    generated: bool
    software: dict[str, str]
    owners: dict[str, tuple[str, ...]]  # by task, in the study's order
    figures: tuple[Figure, ...]

    def metric(self, task: str) -> str:
        """The task's primary metric, the first of its kind."""
        return METRICS[self.study.tasks[task].kind][0]


def compare_topologies(
    study: Study,
    files: Sequence[Path],
    arrangements: Sequence[Arrangement],
    seeds: Sequence[int],
    folder: Path,
    *,
    workers: int,
    talk: Console,
) -> Comparison:
    """Trains what is not finished, shows on `talk` how far it is, and reads the figures of all. Raises `Problem`."""
    same_comparison(study, [read_site(path) for path in files], folder)
    runs = planned(study, files, arrangements, seeds, folder)
    with _progress(talk, runs) as (begin, say):
        for run in runs:
            watch, began = begin(run), time.monotonic()
            if run.finished:
                say(f"{titled(run)}: finished before")
                continue
            run_arm(run.study, run.sites, "federated", run.folder, workers=workers, watch=watch)
            say(f"{titled(run)}: {time.monotonic() - began:.0f} s")
    found = [results_of(run) for run in runs]
    return Comparison(
        study=study,
        arrangements=tuple(arrangements),
        seeds=tuple(seeds),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=sum(turn.seconds for results in found for turn in results.turns),
        machine=found[0].machine,
        generated=found[0].generated,
        software=found[0].software,
        owners={
            task: tuple(site.name for site in map(read_site, files) if task in site.file.tasks) for task in study.tasks
        },
        figures=tuple(figure for run, results in zip(runs, found, strict=True) for figure in _figures(run, results)),
    )


def results_of(run: Run) -> Results:
    """What the ledger of a run holds."""
    sites = [read_site(path) for path in run.sites]
    return collect(run.study, sites, {"federated": [run.folder / "ledger.db"]}, set(), datetime.now(UTC), 0.0)


def _figures(run: Run, results: Results) -> Iterator[Figure]:
    for cell in table(results):
        if (end := cell.values.get("federated")) is not None:
            yield Figure(run.arrangement, run.seed, cell.site, cell.task, cell.metric, end.value, end.count)


@contextmanager
def _progress(console: Console, runs: Sequence[Run]) -> Iterator[tuple[Callable[[Run], Watch], Callable[[str], None]]]:
    """A bar over the rounds of all runs: how to begin the next one, and how to say something above the bar."""
    bar = bars(console)
    line = bar.add_task("rounds", total=sum(run.study.rounds for run in runs), note="")
    before = list(accumulate((run.study.rounds for run in runs), initial=0))

    def say(text: str) -> None:
        bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(run: Run) -> Watch:
        name, past = titled(run), before[runs.index(run)]
        bar.update(line, completed=past, note=name)

        def event(_: str, happened: Event) -> None:
            if happened.what == "committed":
                bar.update(line, completed=past + happened.round)
            elif happened.what in TROUBLE:
                say(f"{name}: {sentence(happened)}")

        return Watch(event=event)

    with bar:
        yield begin, say
        bar.update(line, completed=before[-1], note="")
