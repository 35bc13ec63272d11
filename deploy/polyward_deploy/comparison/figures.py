"""What the runs of a comparison leave to be read: figures at the end, figures on the way, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from polyward_client.site import Site, read_site
from polyward_deploy.arms import Arm
from polyward_deploy.compare import collect
from polyward_deploy.comparison.plan import Run, Subject, Variation
from polyward_deploy.results import Results, seen_as, table
from polyward_shared.messages import Stage
from polyward_shared.reading import Frozen
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS


@dataclass(frozen=True, slots=True)
class Figure:
    """A task's primary metric on a site's test split at the end of a run, over `count` cases."""

    variation: str
    seed: int
    site: str
    task: str
    metric: str
    value: float
    count: int


@dataclass(frozen=True, slots=True)
class Point:
    """The same after the site's own training in a round."""

    variation: str
    seed: int
    round: int
    site: str
    task: str
    value: float
    count: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What all rounds of a variation took with one seed. A site alone sends nothing to anybody."""

    variation: str
    seed: int
    bytes_down: int
    bytes_up: int
    seconds: float


class Comparison(Frozen):
    """Everything that a comparison leaves to be read. `study` is the given one; of the failed there are no figures."""

    subject: Subject
    study: Study
    described: dict[str, str]  # every variation that has figures, in order, with a line about it
    seeds: tuple[int, ...]
    started: str  # date and time as ISO 8601
    machine: str
    generated: bool
    software: dict[str, str]
    owners: dict[str, tuple[str, ...]]  # by task, in the study's order
    figures: tuple[Figure, ...]
    course: tuple[Point, ...]
    costs: tuple[Cost, ...]
    failures: tuple[str, ...] = ()  # of single runs, as sentences
    notes: tuple[str, ...] = ()  # what else a reader must know, as sentences

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.described)

    @property
    def reference(self) -> str:
        return self.subject.reference

    @property
    def seconds(self) -> float:
        """Of the rounds of all runs, one after the other."""
        return sum(cost.seconds for cost in self.costs)

    def metric(self, task: str) -> str:
        """The task's primary metric, the first of its kind."""
        return METRICS[self.study.tasks[task].kind][0]


def read(
    subject: Subject,
    study: Study,
    sites: Sequence[Site],
    variations: Sequence[Variation],
    runs: Sequence[Run],
    failures: Mapping[str, str],
    notes: Iterable[str],
) -> Comparison:
    """The comparison of those variations whose runs have all been finished; `failures` by a run's title."""
    lost = {run.variation for run in runs if run.title in failures}
    whole = [variation for variation in variations if variation.name not in lost]
    by_name = {variation.name: variation for variation in whole}
    found = [(run, results_of(run, by_name[run.variation])) for run in runs if run.variation in by_name]
    some = found[0][1]
    return Comparison(
        subject=subject,
        study=study,
        described={variation.name: variation.described for variation in whole},
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=some.machine,
        generated=some.generated,
        software=some.software,
        owners={task: tuple(site.name for site in sites if task in site.file.tasks) for task in study.tasks},
        figures=tuple(figure for run, results in found for figure in _figures(run, results)),
        course=tuple(point for run, results in found for point in _points(run, results)),
        costs=tuple(_costs(found)),
        failures=tuple(f"{title}: {reason}" for title, reason in failures.items()),
        notes=tuple(notes),
    )


def results_of(run: Run, variation: Variation) -> Results:
    """What the ledger of a run holds, as far as the variation's figures mean something."""
    sites = [read_site(path) for path in run.sites]
    ledgers: dict[Arm, list[Path]] = {"federated": [run.folder / "ledger.db"]}
    found = seen_as(collect(run.study, sites, ledgers, frozenset(), datetime.now(UTC), 0.0), variation.model)
    shown = variation.shown
    if shown is None:
        return found
    return found.model_copy(update={"rows": tuple(row for row in found.rows if row.task in shown)})


def _figures(run: Run, results: Results) -> Iterator[Figure]:
    for cell in table(results):
        if (end := cell.values.get("federated")) is not None:
            yield Figure(run.variation, run.seed, cell.site, cell.task, cell.metric, end.value, end.count)


def _points(run: Run, results: Results) -> Iterator[Point]:
    for row in results.rows:
        primary = METRICS[run.study.tasks[row.task].kind][0]
        if (row.split, row.stage, row.metric) == ("test", Stage.TRAINED, primary):
            yield Point(run.variation, run.seed, row.round, row.site, row.task, row.value, row.count)


def _costs(found: Iterable[tuple[Run, Results]]) -> Iterator[Cost]:
    def belongs(each: tuple[Run, Results]) -> tuple[str, int]:
        return each[0].variation, each[0].seed

    for (name, seed), group in groupby(sorted(found, key=belongs), belongs):
        several = list(group)
        crossed = [turn for run, results in several if len(run.sites) > 1 for turn in results.turns]
        yield Cost(
            name,
            seed,
            sum(turn.bytes_down for turn in crossed),
            sum(turn.bytes_up for turn in crossed),
            sum(turn.seconds for _, results in several for turn in results.turns),
        )
