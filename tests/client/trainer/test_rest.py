"""Branches that stop getting better rest: not a bit of them changes, and the others go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.round import Run, finish_round, note_progress, resting, train_round
from polyward_shared.messages import Metric, Stage
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

NAMES = ("bright", "grade", "mask")
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "parallel": {"kind": "parallel"},
    "source of a cascade": {"kind": "cascaded"},  # mask -> bright, grade
    "interaction": {"kind": "interacted"},
}


def study_of(patience: int = 1, **changes: Any) -> Study:
    training = {"patience": patience, "schedule": "fedper", "weight_decay": 0.1}
    return make_study(tasks=NAMES, training=training, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    site, study = write_site(Path(tmp_path_factory.mktemp("site")), tasks=NAMES), study_of()
    return load_dataset(read_manifest(site, study, NAMES), study)


def run(study: Study, number: int = 1) -> Run:
    return Run(study=study, site="north", round=number, device=torch.device("cpu"))


def state(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before: dict[str, torch.Tensor], model: MultiTaskModel) -> set[str]:
    after = state(model)
    names = {name for name in before if not torch.equal(before[name], after[name])}
    return {".".join(name.split(".")[: 2 if name.startswith("branches") else 1]) for name in names}


def val(value: float, task: str = "bright", split: str = "val", name: str = "loss") -> Metric:
    return Metric(task, split, Stage.TRAINED, name, value, 4)


def progress(model: MultiTaskModel, task: str) -> list[float]:
    return model.progress(task).tolist()


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_a_resting_branch_does_not_change_by_a_bit(data: Dataset, topology: dict[str, Any]) -> None:
    study = study_of(topology=topology)
    model = MultiTaskModel(study, NAMES)
    model.progress("mask").copy_(torch.tensor([0.0, 1.0]))
    before = state(model)
    train_round(model, data, run(study))
    moving = {"encoder", "branches.bright", "branches.grade"}
    assert changed(before, model) == moving | ({"interaction"} if topology["kind"] == "interacted" else set())
    assert progress(model, "mask") == [0, 1], "a resting branch is not judged again"


def test_the_encoder_hears_only_those_that_are_awake(data: Dataset) -> None:
    def trained(tasks: tuple[str, ...], rests: tuple[str, ...]) -> dict[str, torch.Tensor]:
        study = study_of()
        model = MultiTaskModel(study, tasks)
        for task in rests:
            model.progress(task).copy_(torch.tensor([0.0, 9.0]))
        mine = Dataset(
            images=data.images,
            targets={task: data.targets[task] for task in tasks},
            rows=data.rows,
            labelled={task: data.labelled[task] for task in tasks},
            splits=data.splits,
            patients=data.patients,
        )
        train_round(model, mine, run(study))
        return {name: value for name, value in state(model).items() if name.startswith("encoder.")}

    one, two = trained(("bright",), ()), trained(("bright", "mask"), ("mask",))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_where_all_branches_rest_nothing_moves(data: Dataset) -> None:
    study = study_of()
    model = MultiTaskModel(study, NAMES)
    for task in NAMES:
        model.progress(task).copy_(torch.tensor([0.0, 1.0]))
    before = state(model)
    trained = train_round(model, data, run(study))
    assert changed(before, model) == set()
    assert trained.steps == 0
    assert {row.stage for row in trained.metrics} == {Stage.RECEIVED, Stage.TRAINED}


def test_the_final_tuning_wakes_all(data: Dataset) -> None:
    study = study_of()
    model = MultiTaskModel(study, NAMES)
    for task in NAMES:
        model.progress(task).copy_(torch.tensor([0.0, 1.0]))
    before = state(model)
    finish_round(model, data, run(study))
    assert changed(before, model) == {f"branches.{task}" for task in NAMES}


def test_rounds_since_the_best_are_counted() -> None:
    model = MultiTaskModel(study_of(patience=2), NAMES)
    for value, wanted in ((0.5, [0.5, 0]), (0.75, [0.5, 1]), (0.25, [0.25, 0]), (0.5, [0.25, 1]), (0.5, [0.25, 2])):
        assert not resting(model, "bright")
        note_progress(model, [val(value), val(9.0, task="grade")], ["bright"])
        assert progress(model, "bright") == wanted
    assert resting(model, "bright")
    assert progress(model, "grade") == [torch.inf, 0]


@pytest.mark.parametrize("value", [0.1, 0.3, 0.6, 0.7])
def test_an_equal_loss_is_not_better_whatever_its_last_bits(value: float) -> None:
    model = MultiTaskModel(study_of(patience=3), NAMES)
    for stale in range(4):
        note_progress(model, [val(value)], ["bright"])
        assert progress(model, "bright")[1] == stale


def test_only_the_loss_on_the_validation_split_counts() -> None:
    model = MultiTaskModel(study_of(), NAMES)
    note_progress(model, [val(0.1, split="test"), val(0.9, name="auroc")], ["bright"])
    assert progress(model, "bright") == [torch.inf, 0]


def test_without_patience_nobody_rests() -> None:
    model = MultiTaskModel(study_of(patience=0), NAMES)
    model.progress("bright").copy_(torch.tensor([0.0, 99.0]))
    assert not resting(model, "bright")
