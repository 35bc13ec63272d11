"""Both models side by side, of the same time and with their intervals."""

from __future__ import annotations

from pathlib import Path

from polyward_server.ledger import Ledger
from polyward_server.records import Event, Round, State
from polyward_server.views.results import Result, read_results
from polyward_shared.messages import Metric, Stage
from tests.support.toy_trainer import toy_study


def rows(folder: Path, *figures: tuple[int, str, Metric], final: tuple[tuple[str, Metric], ...] = ()) -> list[Result]:
    """What is read of a ledger with these figures."""
    ledger = Ledger(folder / "ledger.db")
    digest = ledger.queue(toy_study())
    ledger.set_state(digest, State.RUNNING)
    for number in range(3):
        own = [(site, metric) for at, site, metric in figures if at == number]
        ledger.commit_round(digest, Round(number, "s" * 64, "e" * 64, 0.0), figures=own)
    for name in sorted({"a"} | {site for site, _ in final}):
        ends = [metric for site, metric in final if site == name]
        ledger.conclude(Event(digest, 2, name, "finished"), {"mask": "alone"} if name == "a" else {}, ends)
    found = list(read_results(ledger, digest).rows)
    ledger.close()
    return found


def dice(stage: Stage, value: float, count: int = 30, width: float | None = None, split: str = "test") -> Metric:
    ends = (None, None) if width is None else (value - width, value + width)
    return Metric("mask", split, stage, "dice", value, count, *ends)


def test_a_pair_is_of_one_time(tmp_path: Path) -> None:
    [row] = rows(
        tmp_path,
        (1, "a", dice(Stage.TRAINED, 0.5, width=0.1)),
        (1, "a", dice(Stage.ALONE, 0.625, width=0.0625)),
        (2, "a", dice(Stage.TRAINED, 0.75, width=0.1)),
        (2, "a", dice(Stage.TRAINED, 0.1, split="val")),
    )
    assert (row.when, row.federated, row.alone, row.gain) == ("round 1", 0.5, 0.625, -0.125)
    assert (row.alone_low, row.alone_high, row.overlap, row.cases, row.kept) == (0.5625, 0.6875, True, "20-49", "alone")


def test_without_a_pair_the_newest_figure_stands_alone(tmp_path: Path) -> None:
    first, other = rows(
        tmp_path,
        (1, "a", dice(Stage.TRAINED, 0.5)),
        (2, "a", dice(Stage.TRAINED, 0.625)),
        (2, "b", dice(Stage.TRAINED, 0.5)),
        (2, "b", dice(Stage.ALONE, 0.25, count=31)),  # over other cases: no gain
        final=(("a", dice(Stage.FINAL, 0.75)),),
    )
    assert (first.when, first.federated, first.alone, first.gain, first.overlap) == ("end", 0.75, None, None, None)
    assert (other.when, other.federated, other.alone, other.kept) == ("round 2", 0.5, None, "")


def test_intervals_that_lie_apart(tmp_path: Path) -> None:
    [row] = rows(
        tmp_path,
        final=(("a", dice(Stage.FINAL, 0.75, width=0.125)), ("a", dice(Stage.ALONE_FINAL, 0.25, width=0.125))),
    )
    assert (row.when, row.overlap, row.gain) == ("end", False, 0.5)
