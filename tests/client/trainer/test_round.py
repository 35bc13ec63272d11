"""What moves, what stands still, and that a round depends on nothing but its order."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from polyward_client.port.interface import Progress
from polyward_client.trainer.dataset import Batch, Dataset, Indices, load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.round import Run, finish_round, optimisers_of, train_phase, train_round
from polyward_client.trainer.schedule import Phase, final_phases, round_phases
from polyward_client.trainer.step import train_step
from polyward_shared.messages import Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study, write_site

CPU = torch.device("cpu")
State = dict[str, torch.Tensor]


def loaded(folder: Path, study: Study, **changes: object) -> Dataset:
    site = write_site(folder, tasks=tuple(study.tasks), **changes)  # type: ignore[arg-type]
    return load_dataset(read_manifest(site, study, site.file.tasks), study)


def state(model: MultiTaskModel) -> State:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def changed(before: State, after: State) -> set[str]:
    """The groups of which some bit changed; the balancer's memory may always."""
    names = {name for name in before if not torch.equal(before[name], after[name]) and "balancer" not in name}
    return {".".join(name.split(".")[: 1 if name.startswith("encoder") else 2]) for name in names}


def run(study: Study, number: int = 1, **changes: object) -> Run:
    return Run(study=study, site="north", round=number, device=CPU, **changes)  # type: ignore[arg-type]


def test_schedules_as_data() -> None:
    training = make_study(training={"branch_learning_rate": 0.5, "branch_epochs": 3, "final_epochs": 2}).training
    assert round_phases(training) == (
        Phase("branches", 3, {"private": 0.01, "personal": 0.5}),
        Phase("encoder", 1, {"encoder": 0.01, "private": 0.01}),
    )
    together = make_study(training={"schedule": "fedper"}).training
    assert round_phases(together) == (Phase("together", 1, {"encoder": 0.01, "private": 0.01, "personal": 0.01}),)
    assert final_phases(training) == (Phase("final", 2, {"private": 0.01, "personal": 0.5}),)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_frozen_parts_do_not_change_by_a_bit(tmp_path: Path, optimiser: str) -> None:
    study = make_study(training={"optimiser": optimiser, "weight_decay": 0.1})
    data, model = loaded(tmp_path, study), MultiTaskModel(study, tuple(TASKS))
    start = state(model)
    branches, encoder = round_phases(study.training)
    train_phase(model, data, run(study), branches)
    middle = state(model)
    assert changed(start, middle) == {f"branches.{task}" for task in TASKS}
    train_phase(model, data, run(study), encoder)
    assert changed(middle, state(model)) == {"encoder"}


def test_parts_without_a_rate_are_frozen_while_others_move(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"])
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    seen: list[tuple[bool, bool, bool]] = []

    def watch(progress: Progress) -> None:
        grad = next(model.encoder.parameters()).requires_grad
        seen.append((grad, model.encoder.training, model.branches["bright"].training))

    train_phase(model, data, run(study, watch=watch), Phase("branches", 1, {"personal": 0.1}))
    assert seen == [(False, False, True)] * 2  # at the begin, and after the epoch


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_branch_without_a_label_in_the_batch_gets_no_gradient_and_no_step(tmp_path: Path, optimiser: str) -> None:
    study = make_study(training={"optimiser": optimiser, "weight_decay": 0.1})
    data = loaded(tmp_path, study, unlabelled={"mask": range(6)})
    model = MultiTaskModel(study, tuple(TASKS))
    optimisers = optimisers_of(model, Phase("", 1, {"encoder": 0.1, "personal": 0.1}), run(study))
    train_step(model, [data.batch(np.array([6, 7]), CPU)], run(study), optimisers)  # fills the momentum
    before = state(model)
    losses = train_step(model, [data.batch(np.array([0, 1]), CPU)], run(study), optimisers).losses
    assert losses.keys() == set(TASKS) - {"mask"}
    assert changed(before, state(model)) == {"encoder"} | {f"branches.{task}" for task in TASKS if task != "mask"}
    assert all(parameter.grad is None for parameter in model.branches["mask"].parameters())


@pytest.mark.parametrize("schedule", ["fedrep", "fedper"])
@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def test_the_same_order_gives_the_same_bytes_whatever_ran_before(
    tmp_path: Path, schedule: str, size: tuple[int, ...]
) -> None:
    study = make_study(
        tasks=["bright", "area"], image={"size": size}, training={"schedule": schedule, "augmentation": "light"}
    )
    if len(size) == 3:
        site = write_site(tmp_path, tasks=("bright", "area"))
        for number in range(20):
            np.save(site.root / f"{number}.npy", np.random.default_rng(number).random(size))
        site.manifest.write_text(site.manifest.read_text().replace(".png,p", ".npy,p"))
        data = load_dataset(read_manifest(site, study, site.file.tasks), study)
    else:
        data = loaded(tmp_path, study)
    one = MultiTaskModel(study, ("bright", "area"))
    train_round(one, data, run(study, 2))
    torch.manual_seed(99)
    np.random.seed(99)
    two = MultiTaskModel(study, ("bright", "area"))
    start = state(two)
    train_round(two, data, run(study, 1))
    two.load_state_dict(start)
    train_round(two, data, run(study, 2))
    assert changed(state(one), state(two)) == set()
    two.load_state_dict(start)
    train_round(two, data, run(study, 3))
    assert changed(state(one), state(two))


def test_learning_is_real(tmp_path: Path) -> None:
    study = make_study(tasks=["bright", "mask"], training={"schedule": "fedper", "epochs": 20})
    data, model = loaded(tmp_path, study, images=40), MultiTaskModel(study, ("bright", "mask"))
    rows = train_round(model, data, run(study)).metrics
    found = {(row.task, row.name, row.stage): row.value for row in rows if row.split == "test"}
    assert found["bright", "auroc", Stage.RECEIVED] < 0.7
    assert found["bright", "auroc", Stage.TRAINED] == 1
    assert found["mask", "dice", Stage.TRAINED] > 0.95


def test_figures_are_taken_when_due_and_always_in_the_last_round(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"], rounds=5, evaluation={"every": 2, "splits": ["val"]})
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    stages = {
        number: {row.stage for row in train_round(model, data, run(study, number)).metrics} for number in (1, 2, 5)
    }
    both = {Stage.RECEIVED, Stage.TRAINED}
    assert stages == {1: set(), 2: both, 5: both}
    last = finish_round(model, data, run(study, 5)).metrics
    assert {(row.stage, row.split) for row in last} == {(Stage.FINAL, "val")}


def test_finishing_moves_branches_alone(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"])
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    before = state(model)
    finish_round(model, data, run(study))
    assert changed(before, state(model)) == {"branches.bright"}


def test_cancelling_stops_before_the_next_batch(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"])
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    answers = iter([False, True])
    with pytest.raises(Refused) as caught:
        train_round(model, data, run(study, cancelled=lambda: next(answers)))
    assert caught.value.code is Code.CANCELLED


def test_a_loss_that_is_not_finite_ends_the_round(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"])
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    with torch.no_grad():
        next(model.encoder.parameters()).fill_(torch.inf)
    with pytest.raises(Refused, match="training-failed"):
        train_round(model, data, run(study))


def given(data: Dataset, study: Study, number: int = 1) -> tuple[int, list[list[int]]]:
    """The steps of a round without figures, and the images of its batches."""
    seen: list[list[int]] = []

    class Told(Dataset):
        def batch(self, places: Indices, device: torch.device) -> Batch:
            seen.append(places.tolist())
            return data.batch(places, device)

    told = Told(**{field.name: getattr(data, field.name) for field in fields(data)})
    return train_round(MultiTaskModel(study, ("bright",)), told, run(study, number)).steps, seen


@pytest.mark.parametrize("images", [10, 40], ids=["small site", "large site"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_of_steps_has_as_many_at_every_site(tmp_path: Path, images: int, accumulate: int) -> None:
    study = make_study(
        tasks=["bright"],
        rounds=9,
        evaluation={"every": 9},
        training={"schedule": "fedper", "steps": 5, "epochs": 2, "accumulate": accumulate},
    )
    data = loaded(tmp_path, study, images=images)
    steps, batches = given(data, study)
    assert (steps, len(batches)) == (10, 10 * accumulate)
    places, train = [place for batch in batches for place in batch], data.cases("train")
    for start in range(0, len(places) - len(train) + 1, len(train)):  # in both epochs: they are one row of passes
        assert sorted(places[start : start + len(train)]) == sorted(train)
    rest = places[len(places) - len(places) % len(train) :]
    assert len(set(rest)) == len(rest)
    assert given(data, study) == (steps, batches)
    assert given(data, study, number=2)[1] != batches


def test_without_a_number_of_steps_every_image_is_seen_once_in_an_epoch(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"], rounds=9, evaluation={"every": 9})
    data = loaded(tmp_path, study)
    steps, batches = given(data, study)
    assert steps == 6  # 12 images in batches of 4, for the branches and for the encoder
    assert sorted(place for batch in batches[:3] for place in batch) == sorted(data.cases("train"))


def test_a_site_that_joins_fits_its_branches_first(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"], training={"schedule": "fedper", "join_epochs": 2})
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    seen: list[tuple[str, bool]] = []

    def watch(progress: Progress) -> None:
        if progress.loss is not None:
            seen.append((progress.phase, next(model.encoder.parameters()).requires_grad))

    trained = train_round(model, data, run(study, 2, watch=watch, joins=True))
    assert seen == [("join", False), ("join", False), ("together", True)]
    assert trained.steps == 9


def test_each_phase_is_told_when_it_begins(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"], training={"schedule": "fedrep", "epochs": 1, "branch_epochs": 2})
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    told: list[tuple[str, int, int]] = []
    watched = run(study, watch=lambda progress: told.append((progress.phase, progress.epoch, progress.epochs)))
    train_round(model, data, watched)
    branches, encoder = [("branches", epoch, 2) for epoch in (0, 1, 2)], [("encoder", epoch, 1) for epoch in (0, 1)]
    assert [each for each in told if not each[0].startswith("measuring")] == branches + encoder


def test_after_the_last_round_the_encoder_moves_where_the_study_says_so(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"], training={"schedule": "fedbabu", "final_parts": "all"})
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    before = state(model)
    train_round(model, data, run(study))
    assert changed(before, state(model)) == {"encoder", "branches.bright"}  # its progress
    assert torch.equal(before["branches.bright.head.weight"], model.state_dict()["branches.bright.head.weight"])
    before = state(model)
    finish_round(model, data, run(study))
    assert changed(before, state(model)) == {"encoder", "branches.bright"}


def test_figures_have_the_names_that_the_run_gives_them(tmp_path: Path) -> None:
    study = make_study(tasks=["bright"], evaluation={"splits": ["val"]})
    data, model = loaded(tmp_path, study), MultiTaskModel(study, ("bright",))
    named = run(study, before=None, after=Stage.ALONE, final=Stage.ALONE_FINAL)
    assert {row.stage for row in train_round(model, data, named).metrics} == {Stage.ALONE}
    assert {row.stage for row in finish_round(model, data, named).metrics} == {Stage.ALONE_FINAL}
