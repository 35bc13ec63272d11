"""Sites that come late and sites that leave, through real gates and trainers, and a study cut in two on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_client.trainer.journal import read_epochs
from polyward_deploy.attendance import Attendance, Stay, stays_of
from polyward_deploy.simulate import Watch, run_arm
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.federation.small import small_study

STAYS = {"hillside": Stay(first=3), "harbour": Stay(last=3)}


class Cut(Exception):
    """Stands for the end of the process."""


def study_and_sites(folder: Path) -> tuple[Study, list[Path]]:
    study, files = small_study(folder, rounds=4, epochs=1)
    quorum = study.participation.model_copy(update={"quorum": 2, "rejoin_seconds": 0.0})
    return study.model_copy(update={"participation": quorum}), files


def test_who_is_there_follows_the_round() -> None:
    attendance = Attendance({"a": 1, "b": 2, "c": 3}, {"b": Stay(first=2), "c": Stay(last=1)})
    assert set(attendance.present()) == {"a", "c"}
    attendance.round = 2
    assert set(attendance.presence()) == {"a", "b"}


def test_the_command_line_says_who_comes_and_goes() -> None:
    assert stays_of(["a=3"], ["b=2", "a=5"], ["a", "b"], 6) == {"a": Stay(3, 5), "b": Stay(1, 2)}
    for late, leaves, message in (
        (["c=1"], [], "--late: found 'c=1'; expected SITE=ROUND with a site of a, b"),
        (["a=0"], [], "--late: found 'a=0'; expected SITE=ROUND with a round from 1 to 6"),
        ([], ["b"], "--leaves: found 'b'; expected SITE=ROUND with a round"),
        (["a=4"], ["a=3"], "a would be gone before it comes"),
    ):
        with pytest.raises(Problem, match=message):
            stays_of(late, leaves, ["a", "b"], 6)


def test_a_latecomer_warms_its_branches_first_and_a_leaver_is_missed_by_nobody(tmp_path: Path) -> None:
    study, files = study_and_sites(tmp_path / "data")

    def cut(_: object, event: Event) -> None:
        if event.what == "committed" and event.round == 2:
            raise Cut

    [path] = run_arm(study, files, "federated", tmp_path / "whole", workers=2, stays=STAYS)
    ledger = Ledger(path)
    credited = {number: [each.site for each in given] for number, given in ledger.contributions(study.digest()).items()}
    assert credited == {
        1: ["harbour", "riverside"],
        2: ["harbour", "riverside"],
        3: ["harbour", "hillside", "riverside"],
        4: ["hillside", "riverside"],
    }
    phases = {
        site: [
            epoch.phase
            for epoch in read_epochs(tmp_path / f"whole/sites/{site}/trainer/training/{study.digest()}.jsonl")
        ]
        for site in ("hillside", "riverside")
    }
    joined = ["join"] * study.training.join_epochs
    assert phases["hillside"] == [*joined, "together", "together", "final"]
    assert phases["riverside"] == [*["together"] * 4, "final"]
    encoders = [committed.encoder for committed in ledger.rounds(study.digest())]
    ledger.close()

    with pytest.raises(Cut):
        run_arm(study, files, "federated", tmp_path / "cut", workers=2, stays=STAYS, watch=Watch(event=cut))
    [path] = run_arm(study, files, "federated", tmp_path / "cut", workers=2, stays=STAYS)
    ledger = Ledger(path)
    assert [committed.encoder for committed in ledger.rounds(study.digest())] == encoders
    ledger.close()
