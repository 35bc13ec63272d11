"""What federation gave a site, read from what it has sent."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from polyward_client.cli.app import app
from polyward_client.gains import Compared, compared, print_gains, verdict
from polyward_client.site import Site
from polyward_shared.chain import Chain
from polyward_shared.messages import Kind, Stage
from tests.support.toy_trainer import toy_site, toy_study

STUDY = toy_study()
FIGURES = {"mask": "dice", "grade": "auroc"}


def line(kind: Kind, round: int, figures: dict[tuple[str, Stage], float], **changes: Any) -> dict[str, Any]:
    """A line of the sent-ledger as the gate writes it."""
    metrics = [[task, "test", stage, FIGURES[task], value, 12] for (task, stage), value in figures.items()]
    report = {"what": "report", "kind": kind, "study": STUDY.digest(), "round": round, "metrics": metrics, "kept": {}}
    return {**report, **changes}


def in_round(received: float, trained: float, alone: float) -> dict[tuple[str, Stage], float]:
    return {("mask", Stage.RECEIVED): received, ("mask", Stage.TRAINED): trained, ("mask", Stage.ALONE): alone}


LINES = [
    line(Kind.JOIN, 0, {}),
    {"what": "refusal", "study": STUDY.digest(), "round": 1},
    line(Kind.TRAIN, 1, in_round(0.1, 0.2, 0.3)),
    line(Kind.TRAIN, 2, in_round(0.4, 0.5, 0.375)),
    line(Kind.TRAIN, 3, {}),  # not measured
    line(Kind.TRAIN, 9, in_round(0.9, 0.9, 0.1), study="f" * 64),
]
END = line(
    Kind.FINISH,
    3,
    {("mask", Stage.FINAL): 0.5, ("mask", Stage.ALONE_FINAL): 0.75, ("mask", Stage.KEPT): 0.75},
    kept={"mask": "alone"},
)


def test_the_last_measured_round_and_the_end_are_compared() -> None:
    last, end = compared([*LINES, END], STUDY)
    assert (last.when, dict(last.values)) == ("round 2", {"received": 0.4, "federated": 0.5, "alone": 0.375})
    assert (last.gain, last.kept) == (0.125, "")
    assert (end.when, end.gain, end.kept, end.count) == ("end", -0.25, "alone", 12)
    assert dict(end.values) == {"federated": 0.5, "alone": 0.75, "kept": 0.75}


def test_a_report_sent_again_replaces_the_one_before() -> None:
    [row] = compared([*LINES, line(Kind.TRAIN, 2, in_round(0.4, 0.25, 0.375))], STUDY)
    assert row.values["federated"] == 0.25


def test_figures_that_are_not_of_the_test_split_or_not_primary_are_left_out() -> None:
    other = [["mask", "val", Stage.TRAINED, "dice", 0.9, 12], ["mask", "test", Stage.TRAINED, "loss", 0.9, 12]]
    assert list(compared([line(Kind.TRAIN, 1, {}, metrics=other)], STUDY)) == []
    only_val = toy_study(evaluation={"splits": ["val"]})
    [row] = compared([line(Kind.TRAIN, 1, {}, metrics=other, study=only_val.digest())], only_val)
    assert dict(row.values) == {"federated": 0.9}


def test_a_lower_error_is_a_gain() -> None:
    row = Compared(task="a", metric="mae", when="end", count=9, values={"federated": 1.0, "alone": 1.5})
    assert row.gain == 0.5
    assert replace(row, metric="dice").gain == -0.5
    assert replace(row, values={"federated": 1.0}).gain is None


def test_the_verdict_is_on_the_last_comparison_of_each_task() -> None:
    rows = list(compared([*LINES, END], STUDY))
    assert verdict(rows[:1]) == "Federated against alone: better in 1 of 1 task, worse in 0."
    assert verdict(rows) == "Federated against alone: better in 0 of 1 task, worse in 1."
    assert verdict([replace(rows[0], values={"federated": 0.5})]).startswith("No task can be compared")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return toy_site(tmp_path, "a", STUDY, ("mask",))


def shown(site: Site) -> tuple[bool, str]:
    console = Console(file=io.StringIO(), width=80)
    found = print_gains(site, console)
    return found, console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_and_where_there_is_none(site: Site) -> None:
    assert shown(site) == (False, "")
    chain = Chain(site.sent)
    for entry in (*LINES, END):
        chain.append(entry)
    found, text = shown(site)
    assert found
    for words in ("toy", "round 2", "0.400", "+0.125", "0.750 (alone)", "-0.250", "worse in 1"):
        assert words in text
    assert "ditto" not in text


def test_the_command_says_so_where_nothing_was_sent(site: Site) -> None:
    result = CliRunner().invoke(app, ["gains", str(site.path)])
    assert result.exit_code == 0
    assert "a has sent no figures of an approved study yet" in " ".join(result.output.split())


def test_all_of_it_fits_into_eighty_columns(site: Site) -> None:
    stages = (Stage.FINAL, Stage.ALONE_FINAL, Stage.DITTO_FINAL, Stage.KEPT)
    chain = Chain(site.sent)
    chain.append(line(Kind.FINISH, 3, {("mask", stage): 0.125 for stage in stages}, kept={"mask": "federated"}))
    _, text = shown(site)
    assert "…" not in text
    assert "0.125 (federated) +0.000" in " ".join(text.split())
