"""What left, on the command line: every transfer of a record that the gate itself wrote, and the sums."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polyward_client.approvals import Approval, write_approval
from polyward_client.cli import main
from polyward_client.known import known_studies
from polyward_client.transfers import chosen, totals, what
from polyward_shared.chain import Chain, read_chain
from polyward_shared.codec import encode
from polyward_shared.commands import out
from polyward_shared.messages import Kind
from polyward_shared.problems import Code
from polyward_shared.schema import ArraySpec, Schema
from tests.client.gate.test_gate import BASE, JOIN, SCHEMA, STUDY, TRAIN, Bench

DIGEST = STUDY.digest()
CONTROL = {
    "at": "2026-11-23T20:00:00.000+00:00",
    "what": "control",
    "messages": 12,
    "bytes": 480,
    "sha256": "c" * 64,
    "detail": {"status": 12},
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A join, two rounds, the end, an order for another study, and some talk on the control plane."""
    bench = Bench(tmp_path)
    bench.report(JOIN)
    bench.report(TRAIN)
    later = BASE + np.float32(0.25)
    second = replace(TRAIN, round=2, state_digest=SCHEMA.state_digest(later), payload=encode("float32", later, None))
    bench.report(second)
    assert bench.code(replace(JOIN, study="f" * 64)) is Code.STUDY_NOT_APPROVED
    bench.report(replace(TRAIN, kind=Kind.FINISH, round=3))
    Chain(bench.site.sent).append(CONTROL)
    return bench


def run(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *options: str,
    command: str = "sent",
) -> str:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["polyward-node", command, str(bench.site.path), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def test_a_line_holds_what_proves_it_later(bench: Bench) -> None:
    join, train, *_ = bench.lines()
    assert train["schema"] == join["schema"] == SCHEMA.digest
    assert train["groups"] == {"encoder": {"arrays": 2, "values": 9}}
    assert (train["bytes"], join["groups"]) == (36, {})
    finish = bench.lines()[4]
    assert (finish["schema"], finish["groups"], finish["bytes"]) == ("", {}, 0)


def test_every_line_is_in_the_table(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "width", 100)
    table, _, sums = run(bench, monkeypatch, capsys).partition("in all")
    rows = [line.split() for line in table.splitlines() if line.strip().startswith("20")]
    assert [row[2] for row in rows] == ["join", "train", "train", "study-not-approved", "finish", "control"]
    norm = bench.lines()[1]["norm"]
    train = [DIGEST[:8], "1", "encoder", "2", "36", bench.lines()[1]["sha256"][:6], f"{norm:.3g}"]
    assert rows[1][3:10] == train
    assert int(rows[1][10]) == len(bench.lines()[1]["metrics"]) > 0
    assert [line.split() for line in sums.splitlines() if DIGEST[:8] in line] == [[DIGEST[:8], "4", "72", "0"]]
    assert "ffffffff 0 0 1" in " ".join(sums.split())
    assert "control plane 1 480 0" in " ".join(sums.split())
    assert "everything 5 552 1" in " ".join(sums.split())
    assert "6 lines, chain whole" in sums


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (("--study", DIGEST[:5]), [0, 1, 2, 4]),
        (("--round", "2"), [2]),
        (("--study", "ff"), [3]),
        (("--study", DIGEST, "--round", "1"), [1]),
        ((), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_json_of_the_chosen_lines_is_the_record_itself(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    seen: list[int],
) -> None:
    told = [json.loads(line) for line in run(bench, monkeypatch, capsys, "--json", *options).splitlines()]
    assert told == [bench.lines()[place] for place in seen]


def test_names_and_shapes_come_from_the_approval(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(bench, monkeypatch, capsys, "--full", "--round", "1")
    assert "  encoder: 2 arrays, 9 values\n    encoder.w  2 x 3\n    encoder.b  3\n" in text
    assert "  figure: mask val received dice = 2, from 8 cases\n" in text
    assert f"  sha256: {bench.lines()[1]['sha256']}\n" in text
    other = Schema((ArraySpec("encoder.w", (1,)),))
    write_approval(bench.site.approved, Approval(STUDY, ("mask",), other))
    text = run(bench, monkeypatch, capsys, "--full", "--round", "1")
    assert "encoder: 2 arrays, 9 values\n  names and shapes are not here" in text
    assert "messages: 12" in run(bench, monkeypatch, capsys, "--full")


def test_lines_of_an_older_version_are_shown_too(bench: Bench) -> None:
    """They have no groups; nothing is made up for them."""
    old = [{k: v for k, v in line.items() if k != "groups"} for line in read_chain(bench.site.sent)]
    assert [what(line) for line in chosen(old, DIGEST, 1)] == ["train"]
    assert totals(old).row_count == 4


def test_studies_know_the_rounds_that_were_answered_and_what_the_hub_asked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {each.digest: each for each in known_studies(bench.site)}
    assert {digest: (each.state, each.rounds) for digest, each in known.items()} == {
        DIGEST: ("finished", 2),
        "f" * 64: ("proposed", 0),
    }
    text = run(bench, monkeypatch, capsys, command="studies")
    assert "2 of 3" in text
    assert "the hub asks for it" in text
