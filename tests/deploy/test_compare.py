"""What the arms' ledgers hold becomes the results' rows, whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from polyward_deploy.arms import Arm, variation
from polyward_deploy.compare import collect
from polyward_deploy.results import Choice, Row, table
from polyward_server.ledger import Ledger
from polyward_server.records import Event, Member, Round
from polyward_shared.messages import Metric, Stage
from tests.support.toy_trainer import toy_site, toy_study


def ended(study: str) -> Event:
    return Event(study, 1, "a", "finished")


def test_a_figure_of_a_ledger_is_a_row_with_its_interval(tmp_path: Path) -> None:
    study = toy_study()
    digest = variation(study, "federated").digest()
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.queue(variation(study, "federated"))
    ledger.join(digest, Member("a", 9, {"mask": 9}, "[]", "toy", True))
    ledger.commit_round(digest, Round(1, "s" * 64, "e" * 64, 0.5))
    sure = Metric("mask", "test", Stage.FINAL, "dice", 0.5, 9, low=0.25, high=0.75)
    ledger.conclude(ended(digest), {}, [sure, Metric("mask", "test", Stage.FINAL, "loss", 1.5, 9)])
    ledger.close()
    site = toy_site(tmp_path / "a", "a", study, ("mask",))
    ledgers: dict[Arm, list[Path]] = {"federated": [tmp_path / "ledger.db"]}
    found = collect(study, [site], ledgers, set(), datetime.now(UTC), 1.0)
    assert set(found.rows) == {
        Row("federated", 1, "a", "mask", "test", Stage.FINAL, "dice", 0.5, 9, 0.25, 0.75),
        Row("federated", 1, "a", "mask", "test", Stage.FINAL, "loss", 1.5, 9),
    }


def test_what_sites_trained_alone_is_the_local_arm(tmp_path: Path) -> None:
    study = toy_study()
    assert study.personal.alone
    digest = study.digest()
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.queue(study)
    ledger.join(digest, Member("a", 9, {"mask": 9}, "[]", "toy", True))
    in_rounds = [(Stage.RECEIVED, 0.3), (Stage.TRAINED, 0.4), (Stage.ALONE, 0.35)]
    ledger.commit_round(
        digest,
        Round(1, "s" * 64, "e" * 64, 0.5),
        figures=[("a", Metric("mask", "test", stage, "dice", value, 9)) for stage, value in in_rounds],
    )
    ends = [(Stage.FINAL, 0.5), (Stage.ALONE_FINAL, 0.625), (Stage.KEPT, 0.625)]
    figures = [Metric("mask", "test", stage, "dice", value, 9) for stage, value in ends]
    ledger.conclude(ended(digest), {"mask": "alone"}, figures)
    ledger.close()
    site = toy_site(tmp_path / "a", "a", study, ("mask",))
    ledgers: dict[Arm, list[Path]] = {"federated": [tmp_path / "ledger.db"]}
    found = collect(study, [site], ledgers, set(), datetime.now(UTC), 1.0)
    local = {(row.round, row.stage, row.value) for row in found.rows if row.arm == "local"}
    assert local == {(1, Stage.TRAINED, 0.35), (1, Stage.FINAL, 0.625)}
    assert not {row.stage for row in found.rows} & {Stage.ALONE, Stage.ALONE_FINAL}
    assert found.kept == (Choice("a", "mask", "alone"),)
    (cell,) = table(found)
    assert (cell.gain, cell.kept) == (-0.125, "alone")
