"""What came of a study: for each task of each site, the federated model beside the one that the site trained alone."""

from __future__ import annotations

from polyward_server.gains import END, Gain, gains_of, primary, shown_split
from polyward_server.ledger import Ledger
from polyward_server.views.receipts import told
from polyward_shared.messages import OF_THE_FEDERATED_MODEL, Metric, Stage
from polyward_shared.reading import Frozen


class Result(Frozen):
    """One task of one site: its first metric at the latest time at which it was measured. Intervals are of 95 %."""

    site: str
    task: str
    split: str
    metric: str
    when: str  # "end", or "round 7"
    cases: str  # behind each figure: a step such as 20-49, or the number
    federated: float
    federated_low: float | None
    federated_high: float | None
    alone: float | None
    alone_low: float | None
    alone_high: float | None
    gain: float | None  # positive where the federated model is better
    overlap: bool | None  # of the two intervals; None where one is lacking
    kept: str  # the model that the site keeps, once it has said so


class Results(Frozen):
    """By task and site, in the order of the study's tasks."""

    rows: tuple[Result, ...]


def read_results(ledger: Ledger, digest: str, *, exact: bool = False) -> Results:
    """Reads them from the ledger."""
    study, figures, kept = ledger.study(digest), ledger.metrics(digest), ledger.kept(digest)
    newest: dict[tuple[str, str], tuple[int, bool, Metric]] = {}
    for number, site, metric in figures:
        if metric.stage not in OF_THE_FEDERATED_MODEL - {Stage.RECEIVED}:
            continue
        if metric.split == shown_split(study) and metric.name == primary(study, metric.task):
            newest[site, metric.task] = max(
                newest.get((site, metric.task), (0, False, metric)),
                (number, metric.stage is Stage.FINAL, metric),
                key=lambda x: x[:2],
            )
    pairs = {(each.site, each.federated.task): each for each in gains_of(study, figures, kept)}
    rows = []
    for (site, task), (number, at_end, metric) in newest.items():
        when = END if at_end else f"round {number}"
        rows.append(_row(site, metric, when, pairs.get((site, task)), kept.get((site, task), ""), exact=exact))
    order = list(study.tasks)
    return Results(rows=tuple(sorted(rows, key=lambda row: (order.index(row.task), row.site))))


def _row(site: str, newest: Metric, when: str, pair: Gain | None, kept: str, *, exact: bool) -> Result:
    """Where there is a pair, both figures are of the same time; else the federated one stands alone."""
    federated, alone = (pair.federated, pair.alone) if pair else (newest, None)
    return Result(
        site=site,
        task=federated.task,
        split=federated.split,
        metric=federated.name,
        when=pair.when if pair else when,
        cases=told(federated.count, exact=exact),
        federated=federated.value,
        federated_low=federated.low,
        federated_high=federated.high,
        alone=alone.value if alone else None,
        alone_low=alone.low if alone else None,
        alone_high=alone.high if alone else None,
        gain=pair.gain if pair else None,
        overlap=_overlap(federated, alone) if alone else None,
        kept=kept,
    )


def _overlap(one: Metric, other: Metric) -> bool | None:
    """Whether the two intervals have a point in common."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low <= other.high and other.low <= one.high
