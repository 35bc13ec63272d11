"""What the arms' ledgers hold becomes the results' rows, whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from polyward_deploy.arms import Arm, variation
from polyward_deploy.compare import collect
from polyward_deploy.results import Row
from polyward_server.ledger import Ledger, Member, Round
from polyward_shared.messages import Metric, Stage
from tests.support.toy_trainer import toy_site, toy_study


def test_a_figure_of_a_ledger_is_a_row_with_its_interval(tmp_path: Path) -> None:
    study = toy_study()
    digest = variation(study, "federated").digest()
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.queue(variation(study, "federated"))
    ledger.join(digest, Member("a", 9, {"mask": 9}, "[]", "toy", True))
    ledger.commit_round(digest, Round(1, "s" * 64, "e" * 64, 0.5))
    sure = Metric("mask", "test", Stage.FINAL, "dice", 0.5, 9, low=0.25, high=0.75)
    ledger.add_metrics(digest, 1, [("a", sure), ("a", Metric("mask", "test", Stage.FINAL, "loss", 1.5, 9))])
    ledger.close()
    site = toy_site(tmp_path / "a", "a", study, ("mask",))
    ledgers: dict[Arm, list[Path]] = {"federated": [tmp_path / "ledger.db"]}
    found = collect(study, [site], ledgers, set(), datetime.now(UTC), 1.0)
    assert set(found.rows) == {
        Row("federated", 1, "a", "mask", "test", Stage.FINAL, "dice", 0.5, 9, 0.25, 0.75),
        Row("federated", 1, "a", "mask", "test", Stage.FINAL, "loss", 1.5, 9),
    }
