"""The gain ledger: for each task of each site, the federated model against the one that the site trained alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from polyward_server.ledger import Ledger
from polyward_shared.messages import Metric, Stage
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS, arrow, gain

ABSENT = "-"
END = "end"  # after the final tuning


@dataclass(frozen=True, slots=True)
class Gain:
    """One (site, task): its primary figures of the latest time at which there are both, over as many cases."""

    site: str
    when: str  # `END`, or such as "round 7"
    federated: Metric
    alone: Metric
    kept: str  # the model that the site keeps, once it has said so

    @property
    def gain(self) -> float:
        """Positive when federation is better."""
        return gain(self.federated.name, self.federated.value, self.alone.value)


def gains(ledger: Ledger, study: Study) -> Iterator[Gain]:
    """By site and task, of everything that the ledger has."""
    return gains_of(study, ledger.metrics(study.digest()), ledger.kept(study.digest()))


def gains_of(
    study: Study, figures: Iterable[tuple[int, str, Metric]], kept: Mapping[tuple[str, str], str]
) -> Iterator[Gain]:
    """By site and task, on the test split if there is one; figures over different numbers of cases make no gain.

    `figures` are round, site and figure, `kept` the models that sites keep, by site and task.
    """
    split = shown_split(study)
    found: dict[tuple[str, str], dict[tuple[int, Stage], Metric]] = {}
    for number, site, metric in figures:
        if metric.split == split and metric.name == primary(study, metric.task):
            found.setdefault((site, metric.task), {})[number, metric.stage] = metric
    for (site, task), rows in sorted(found.items()):
        for federated, alone, when in _pairs(rows):
            if federated.count == alone.count:
                yield Gain(site, when, federated, alone, kept.get((site, task), ""))
                break


def shown_split(study: Study) -> str:
    """The split by which models are compared: test where it is measured."""
    return "test" if "test" in study.evaluation.splits else study.evaluation.splits[0]


def primary(study: Study, task: str) -> str:
    """The figure of a task that tables show first."""
    return METRICS[study.tasks[task].kind][0]


def _pairs(rows: dict[tuple[int, Stage], Metric]) -> Iterator[tuple[Metric, Metric, str]]:
    """Both models' figures, the latest first: after the final tuning, then round by round from the last."""
    for number in sorted({number for number, _ in rows}, reverse=True):
        for one, other, when in (
            (Stage.FINAL, Stage.ALONE_FINAL, END),
            (Stage.TRAINED, Stage.ALONE, f"round {number}"),
        ):
            if (number, one) in rows and (number, other) in rows:
                yield rows[number, one], rows[number, other], when


def gain_table(rows: Iterable[Gain]) -> Table:
    """The gains as people read them."""
    table = Table(pad_edge=False)
    for heading in ("site", "task", "figure", "when"):
        table.add_column(heading, overflow="fold")
    for heading in ("n", "federated", "alone", "gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("kept", no_wrap=True)
    for row in rows:
        colour = "green" if row.gain > 0 else "red" if row.gain < 0 else "dim"
        table.add_row(
            escape(row.site),
            escape(row.federated.task),
            f"{row.federated.name}{arrow(row.federated.name)}",
            row.when,
            str(row.federated.count),
            f"{row.federated.value:.3f}",
            f"{row.alone.value:.3f}",
            f"[{colour}]{row.gain:+.3f}[/]",
            row.kept or ABSENT,
        )
    return table
