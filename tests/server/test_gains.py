"""The gain ledger, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_server.gains import Gain, gains
from polyward_server.ledger import Ledger
from polyward_server.records import Event, Round
from polyward_shared.messages import Metric, Stage
from tests.support.toy_trainer import toy_study

STUDY = toy_study(tasks={"grade": {"kind": "binary"}, "size": {"kind": "regression"}})


def row(task: str, stage: Stage, value: float, count: int = 30, split: str = "test") -> Metric:
    name = {"grade": "auroc", "size": "mae"}[task]
    return Metric(task, split, stage, name, value, count)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.queue(STUDY)
    return ledger


def found(ledger: Ledger) -> dict[tuple[str, str], Gain]:
    return {(each.site, each.federated.task): each for each in gains(ledger, STUDY)}


def test_the_latest_time_with_both_figures_counts(ledger: Ledger) -> None:
    digest = STUDY.digest()
    rows = [
        ("a", row("grade", Stage.TRAINED, 0.8)),
        ("a", row("grade", Stage.ALONE, 0.7)),
        ("a", row("grade", Stage.RECEIVED, 0.1)),
        ("a", row("grade", Stage.ALONE, 0.9, split="val")),
        ("b", row("size", Stage.TRAINED, 3.0)),
        ("b", row("size", Stage.ALONE, 2.0)),
        ("c", row("size", Stage.TRAINED, 3.0)),
    ]
    ledger.commit_round(digest, Round(1, "s" * 64, "e" * 64, 1.0), figures=rows)
    first = found(ledger)
    assert set(first) == {("a", "grade"), ("b", "size")}
    assert first["a", "grade"].gain == pytest.approx(0.1)
    assert first["b", "size"].gain == pytest.approx(-1.0)
    assert (first["a", "grade"].when, first["a", "grade"].kept) == ("round 1", "")
    ends = [row("grade", Stage.FINAL, 0.6), row("grade", Stage.ALONE_FINAL, 0.75)]
    ledger.conclude(Event(digest, 1, "a", "finished"), {"grade": "alone"}, ends)
    last = found(ledger)["a", "grade"]
    assert (last.when, last.kept) == ("end", "alone")
    assert last.gain == pytest.approx(-0.15)


def test_figures_over_other_cases_make_no_gain(ledger: Ledger) -> None:
    rows = [("a", row("grade", Stage.TRAINED, 0.8, count=30)), ("a", row("grade", Stage.ALONE, 0.7, count=20))]
    ledger.commit_round(STUDY.digest(), Round(1, "s" * 64, "e" * 64, 1.0), figures=rows)
    assert found(ledger) == {}
