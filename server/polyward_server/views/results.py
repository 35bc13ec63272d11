"""What came of a study: for each task of each site, the federated model beside the one that the site trained alone."""

from __future__ import annotations

from collections.abc import Mapping

from polyward_server.gains import Gain, gains
from polyward_server.ledger import Ledger
from polyward_server.views.receipts import told
from polyward_shared.messages import OF_THE_FEDERATED_MODEL, Metric, Stage
from polyward_shared.reading import Frozen
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

END = "end"  # after the final tuning


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
    study = ledger.study(digest)
    split, kept = shown_split(study), ledger.kept(digest)
    found: dict[tuple[str, str], dict[tuple[str, Stage], Metric]] = {}
    newest: dict[tuple[str, str], tuple[int, bool, Metric]] = {}
    for number, site, metric in ledger.metrics(digest):
        if metric.split != split or metric.name != METRICS[study.tasks[metric.task].kind][0]:
            continue
        at_end = metric.stage in {Stage.FINAL, Stage.ALONE_FINAL}
        found.setdefault((site, metric.task), {})[END if at_end else f"round {number}", metric.stage] = metric
        if metric.stage in OF_THE_FEDERATED_MODEL - {Stage.RECEIVED}:
            newest[site, metric.task] = max(
                newest.get((site, metric.task), (0, False, metric)), (number, at_end, metric), key=lambda x: x[:2]
            )
    pairs = {(each.site, each.task): each for each in gains(ledger, study)}
    rows = []
    for (site, task), (number, at_end, federated) in newest.items():
        pair = pairs.get((site, task))
        when = pair.when if pair else END if at_end else f"round {number}"
        rows.append(_row(site, found[site, task], federated, pair, when, kept.get((site, task), ""), exact=exact))
    order = list(study.tasks)
    return Results(rows=tuple(sorted(rows, key=lambda row: (order.index(row.task), row.site))))


def shown_split(study: Study) -> str:
    """The split that tables show: test where it is measured."""
    return "test" if "test" in study.evaluation.splits else study.evaluation.splits[0]


def _row(
    site: str,
    found: Mapping[tuple[str, Stage], Metric],
    newest: Metric,
    pair: Gain | None,
    when: str,
    kept: str,
    *,
    exact: bool,
) -> Result:
    """Where there is a pair, both figures are of the same time; else the federated one stands alone."""
    stages = (Stage.FINAL, Stage.ALONE_FINAL) if when == END else (Stage.TRAINED, Stage.ALONE)
    federated = found[when, stages[0]] if pair else newest
    alone = found[when, stages[1]] if pair else None
    return Result(
        site=site,
        task=federated.task,
        split=federated.split,
        metric=federated.name,
        when=when,
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
