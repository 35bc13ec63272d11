"""Every figure of a study, each under one name, at one round: pure reading of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Pair, Round
from polyward_shared.messages import Metric, Stage
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS, gain

HUB = "hub"  # whose figures are about no single site
AGAINST = {Stage.TRAINED: Stage.ALONE, Stage.FINAL: Stage.ALONE_FINAL}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: `run` is the hub's or `sites/NAME`, `step` the round, `at` when that was committed (Unix seconds)."""

    run: str
    name: str
    step: int
    value: float
    at: float


class Sink(Protocol):
    """Where figures go. What `add` has taken is there when it returns, and is not missing afterwards."""

    def missing(self, told: Iterable[Figure]) -> list[Figure]:
        """Those of the figures that are not there yet."""

    def add(self, new: Sequence[Figure]) -> None:
        """Writes these."""

    def close(self) -> None:
        """Ends the work."""


def figures(ledger: Ledger, study: Study) -> Iterator[Figure]:
    """All that the ledger holds: what sites measured, gains over training alone, their updates, and the encoder."""
    digest = study.digest()
    committed = {each.number: each for each in ledger.rounds(digest)}
    if not committed:
        return
    times = {number: datetime.fromisoformat(each.committed).timestamp() for number, each in committed.items()}
    measured = [(number, site, metric) for number, site, metric in ledger.metrics(digest) if number in times]
    found: Iterator[tuple[str, str, int, float]]
    for found in (
        _measured(measured),
        _gains(study, measured),
        _given(ledger.contributions(digest)),
        _of_the_encoder(committed.values()),
        _of_pairs(ledger.pairs(digest)),
    ):
        for run, name, number, value in found:
            yield Figure(run, name, number, value, times[number])


def _measured(rows: Iterable[tuple[int, str, Metric]]) -> Iterator[tuple[str, str, int, float]]:
    for number, site, metric in rows:
        name = f"{metric.task}/{metric.split}/{metric.stage}/{metric.name}"
        yield _run(site), name, number, metric.value
        yield _run(site), f"{name}.cases", number, float(metric.count)
        if metric.low is not None and metric.high is not None:
            yield _run(site), f"{name}.low", number, metric.low
            yield _run(site), f"{name}.high", number, metric.high


def _gains(study: Study, rows: Sequence[tuple[int, str, Metric]]) -> Iterator[tuple[str, str, int, float]]:
    """Of the primary figures, positive where federation is better; over different numbers of cases there is none."""
    known = {(number, site, m.task, m.split, m.stage): m for number, site, m in rows if _is_primary(study, m)}
    for (number, site, task, split, stage), metric in known.items():
        alone = known.get((number, site, task, split, AGAINST[stage])) if stage in AGAINST else None
        if alone is not None and alone.count == metric.count:
            yield _run(site), f"{task}/{split}/{stage}/gain", number, gain(metric.name, metric.value, alone.value)


def _is_primary(study: Study, metric: Metric) -> bool:
    return metric.name == METRICS[study.tasks[metric.task].kind][0]


def _given(contributions: dict[int, list[Contribution]]) -> Iterator[tuple[str, str, int, float]]:
    for number, given in contributions.items():
        for each in given:
            values = {
                "update/norm": each.norm,
                "update/weight": each.weight,
                "update/scale": each.scale,
                "update/share": each.share,
                "update/agreement": each.agreement,
                "update/seconds": each.seconds,
                "update/steps": each.steps,
                "bytes/up": each.bytes_up,
                "bytes/down": each.bytes_down,
            }
            yield from ((_run(each.site), name, number, float(v)) for name, v in values.items() if v is not None)


def _of_the_encoder(committed: Iterable[Round]) -> Iterator[tuple[str, str, int, float]]:
    for each in committed:
        signals = each.signals
        values = {
            "round/seconds": each.seconds,
            "encoder/step": signals.step,
            "encoder/drift": signals.drift,
            "conflict/cancellation": signals.cancellation,
            "conflict/orthogonal": signals.orthogonal,
            "conflict/effective_sites": signals.effective,
        }
        yield from ((HUB, name, each.number, value) for name, value in values.items() if value is not None)


def _of_pairs(pairs: dict[int, list[Pair]]) -> Iterator[tuple[str, str, int, float]]:
    for number, rows in pairs.items():
        for each in rows:
            yield HUB, f"conflict/cosine/{each.site}/{each.other}", number, each.cosine
            yield HUB, f"conflict/magnitude/{each.site}/{each.other}", number, each.magnitude


def _run(site: str) -> str:
    return f"sites/{site}"
