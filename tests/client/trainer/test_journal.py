"""What an epoch leaves in the site's journal, by hand, and that it stays there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polyward_client.approvals import write_approval
from polyward_client.port.interface import Work
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.balance.cut import Backward
from polyward_client.trainer.dataset import load_dataset
from polyward_client.trainer.journal import Epoch, Tally, read_epochs, write_epoch
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel, personal_arrays, schema_of
from polyward_client.trainer.round import Run, train_round
from polyward_client.trainer.step import Stepped
from polyward_client.trainer.trainer import LocalTrainer
from polyward_shared.states import read_state
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

NAMES = ("bright", "mask")
EPOCH = Epoch(1, "together", 1, {"a": 0.5}, {"a": 1.0}, {"a": 1.0})


def stepped(losses: dict[str, float], norms: dict[str, float], cosines: list[list[float]]) -> Stepped:
    def scalars(values: dict[str, float]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(value) for name, value in values.items()}

    weights = dict.fromkeys(losses, 1 / len(losses))
    found = Backward(tuple(losses), scalars(weights), scalars(norms), torch.tensor(cosines))
    return Stepped(scalars(losses), found)


def trained(folder: Path, study: Study) -> list[Epoch]:
    site = write_site(folder, tasks=NAMES)
    data, found = load_dataset(read_manifest(site, study, NAMES), study), list[Epoch]()
    run = Run(study=study, site="north", round=1, device=torch.device("cpu"), journal=found.append)
    train_round(MultiTaskModel(study, NAMES), data, run)
    return found


def test_means_over_the_steps_where_a_task_or_a_pair_is_there() -> None:
    tally = Tally()
    tally.add(stepped({"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 3.0}, [[1.0, -0.5], [-0.5, 1.0]]))
    tally.add(stepped({"a": 3.0}, {"a": 4.0}, [[1.0]]))
    found = tally.epoch(7, "encoder", 2, {"a": 4.0, "b": torch.nan})
    assert (found.round, found.phase, found.epoch) == (7, "encoder", 2)
    assert found.losses == {"a": 2.0, "b": 4.0}
    assert found.ratios == {"a": 0.5}  # b has no first loss
    assert found.weights == {"a": 0.75, "b": 0.5}
    assert found.norms == {"a": 3.0, "b": 3.0}
    assert found.cosines == {"a b": -0.5}
    assert found.mean_loss == 3.0


def test_an_epoch_without_any_label_is_empty() -> None:
    found = Tally().epoch(1, "together", 1, {})
    assert (found.losses, found.weights, found.mean_loss) == ({}, {}, 0.0)


@pytest.mark.parametrize("kind", ["mgda", "cagrad"])
def test_a_rule_over_gradients_tells_how_tasks_pull(tmp_path: Path, kind: str) -> None:
    study = make_study(tasks=NAMES, balancer={"kind": kind}, training={"schedule": "fedper", "epochs": 2, "batch": 12})
    first, second = trained(tmp_path, study)
    assert (first.phase, first.epoch, second.epoch) == ("together", 1, 2)
    for epoch in (first, second):
        assert epoch.losses.keys() == epoch.weights.keys() == epoch.norms.keys() == set(NAMES)
        assert all(norm > 0 for norm in epoch.norms.values())
        assert list(epoch.cosines) == ["bright mask"]
        assert -1 <= epoch.cosines["bright mask"] <= 1
    assert first.ratios == {"bright": 1.0, "mask": 1.0}  # the only step of the epoch is the first ever
    assert second.ratios["mask"] == pytest.approx(second.losses["mask"] / first.losses["mask"])
    assert set(first.weights.values()) != {0.5}


def test_while_the_encoder_stands_still_only_losses_and_weights_are_known(tmp_path: Path) -> None:
    branches, encoder = trained(tmp_path, make_study(tasks=NAMES))
    assert (branches.phase, branches.norms, branches.cosines) == ("branches", {}, {})
    assert branches.weights == {"bright": 0.5, "mask": 0.5}
    # the gradients of each task are there anyway once the encoder moves, whatever the balancer
    assert encoder.norms.keys() == set(NAMES)
    assert encoder.weights == {"bright": 0.5, "mask": 0.5}


def test_one_line_for_each_epoch_that_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "training" / "study.jsonl"
    mask = os.umask(0)
    try:
        write_epoch(path, EPOCH)
        write_epoch(path, replace(EPOCH, epoch=2))
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(EPOCH), asdict(replace(EPOCH, epoch=2))]
    assert read_epochs(path) == [EPOCH, replace(EPOCH, epoch=2)]
    assert read_epochs(tmp_path / "none") == []


def test_the_last_attempt_of_an_epoch_counts(tmp_path: Path) -> None:
    again = replace(EPOCH, losses={"a": 0.25})
    for epoch in (EPOCH, replace(EPOCH, round=2), again):
        write_epoch(tmp_path / "study.jsonl", epoch)
    assert read_epochs(tmp_path / "study.jsonl") == [again, replace(EPOCH, round=2)]


@pytest.mark.parametrize("kept", [1, 30, -1], ids=["one letter", "half", "all but the end"])
def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "study.jsonl"
    write_epoch(path, EPOCH)
    whole = path.read_bytes()
    write_epoch(path, replace(EPOCH, epoch=2))
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:kept])
    write_epoch(path, replace(EPOCH, epoch=3))
    assert [epoch.epoch for epoch in read_epochs(path)] in ([1, 3], [1, 2, 3])
    assert read_epochs(path)[-1] == replace(EPOCH, epoch=3)


def test_nothing_of_the_journal_leaves(tmp_path: Path) -> None:
    study = make_study(tasks=NAMES, balancer={"kind": "mgda"}, training={"schedule": "fedper"})
    site = write_site(tmp_path, tasks=NAMES)
    approval = make_approval(study, site)
    write_approval(site.approved, approval)
    trainer = LocalTrainer(site)
    first = trainer.describe(study.digest()).first
    digest = approval.schema.state_digest(approval.schema.pack(read_state(Path(first))))
    work = Work(study=study.digest(), round=1, state=first, state_digest=digest)
    done = trainer.train(work, lambda progress: None)
    path = site.journal / f"{study.digest()}.jsonl"
    (epoch,) = read_epochs(path)
    assert epoch.cosines
    assert not path.resolve().is_relative_to(site.spool.resolve())
    names = {"loss"} | {metric.name for metric in done.metrics}
    assert not names & {"ratios", "weights", "norms", "cosines"}
    told: dict[str, Any] = json.loads(done.model_dump_json())
    values = {metric["value"] for metric in told["metrics"]}
    assert not values & {*epoch.norms.values(), *epoch.cosines.values(), *epoch.losses.values()}
    model = MultiTaskModel(study, NAMES)
    assert {spec.name.split(".")[0] for spec in schema_of(model, study).arrays} == {"encoder"}
    assert not any("journal" in name for name in personal_arrays(model, study))
