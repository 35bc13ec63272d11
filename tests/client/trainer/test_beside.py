"""What a site trains beside the federated model: its own, which no hub touches, and one that is drawn to the hub's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from polyward_client.approvals import Approval, write_approval
from polyward_client.port.interface import Done, Progress, Work
from polyward_client.site import Site
from polyward_client.trainer import trainer as module
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.beside import (
    chosen,
    encoder_of,
    first_state,
    judged,
    kept_figures,
    load_state,
    state_of,
    work_beside,
)
from polyward_client.trainer.dataset import load_dataset
from polyward_client.trainer.evaluate import evaluate
from polyward_client.trainer.journal import read_epochs
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel, schema_of, shared_arrays
from polyward_client.trainer.round import Run, train_round
from polyward_client.trainer.trainer import LocalTrainer
from polyward_client.trainer.vault import Vault, taken_apart
from polyward_deploy.simulate import run_arm
from polyward_shared.chain import read_chain
from polyward_shared.messages import Kept, Metric, Stage
from polyward_shared.problems import Problem
from polyward_shared.schema import Schema
from polyward_shared.states import Arrays, read_state, write_state
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

NAMES = ("bright", "area")
FEW = "[policy]\nminimum_count = 2\n"
CPU = torch.device("cpu")


def quiet(progress: Progress) -> None:
    pass


class Bench:
    """A site, its trainer and the states that a hub might send."""

    def __init__(self, folder: Path, toml: str = FEW, tasks: tuple[str, ...] = NAMES, **changes: Any) -> None:
        self.study = make_study(tasks=tasks, **changes)
        self.site: Site = write_site(folder, tasks=tasks, toml=toml)
        self.approval = make_approval(self.study, self.site)
        write_approval(self.site.approved, self.approval)
        self.trainer = LocalTrainer(self.site)

    def sent(self, shift: float = 0.0) -> Path:
        """The first state, with every value moved by `shift`, as the hub's."""
        first = read_state(Path(self.trainer.describe(self.study.digest()).first))
        path = self.site.spool / f"hub-{shift}.safetensors"
        write_state(path, {name: array + np.float32(shift) for name, array in first.items()}, {})
        return path

    def order(self, round: int, state: Path) -> Work:
        schema = self.approval.schema
        digest = schema.state_digest(schema.pack(read_state(state)))
        return Work(study=self.study.digest(), round=round, state=str(state), state_digest=digest)

    def train(self, round: int, state: Path) -> Done:
        return self.trainer.train(self.order(round, state), quiet)

    def finish(self, state: Path) -> Done:
        return self.trainer.finish(self.order(self.study.rounds, state), quiet)

    def models(self, round: int) -> dict[str, Arrays]:
        """What the vault holds of a round, by model."""
        return taken_apart(read_state(self.site.vault / self.study.digest() / f"round-{round:06}.safetensors"))

    def final(self) -> dict[str, Arrays]:
        return taken_apart(read_state(self.site.vault / self.study.digest() / "final.safetensors"))


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def figures(rows: tuple[Metric, ...], stage: Stage) -> dict[tuple[str, str, str], float]:
    return {(row.task, row.split, row.name): row.value for row in rows if row.stage is stage}


# The model that a site trains alone


def sent_figures(folder: Path, stages: Mapping[Stage, Stage]) -> dict[tuple[str, ...], float]:
    """Figures that north has sent, by round, task, split and name, under the names that `stages` gives them."""
    return {
        (str(line["round"]), task, split, stages[Stage(stage)], name): value
        for line in read_chain(folder / "sites" / "north" / "gate/sent.jsonl")
        for task, split, stage, name, value, *_ in line["metrics"]
        if stage in stages
    }


@pytest.mark.parametrize(
    "training",
    [
        {"schedule": "fedrep"},
        {"schedule": "fedper", "proximal": 0.5, "augmentation": "light", "rate_schedule": "cosine", "patience": 1},
    ],
    ids=["plain", "proximal, resting"],
)
def test_alone_is_the_federation_of_this_site_alone(tmp_path: Path, training: dict[str, Any]) -> None:
    study = make_study(tasks=NAMES, rounds=3, training=training, branches={"dropout": 0.2})
    north = write_site(tmp_path / "north", tasks=NAMES, toml=FEW)
    south = write_site(tmp_path / "south", name="south", tasks=NAMES, images=30, toml=FEW)
    together, single = tmp_path / "together", tmp_path / "single"
    run_arm(study, [north.path, south.path], "federated", together, workers=2)
    without = study.model_copy(update={"personal": study.personal.model_copy(update={"alone": False})})
    only = study.participation.model_copy(update={"quorum": 1})
    run_arm(without.model_copy(update={"participation": only}), [north.path], "federated", single, workers=1)
    alone = sent_figures(together, {Stage.ALONE: Stage.TRAINED, Stage.ALONE_FINAL: Stage.FINAL})
    wanted = sent_figures(single, {Stage.TRAINED: Stage.TRAINED, Stage.FINAL: Stage.FINAL})
    assert len(wanted) > 40
    assert alone == pytest.approx(wanted, abs=1e-6)
    federated = sent_figures(together, {Stage.TRAINED: Stage.TRAINED, Stage.FINAL: Stage.FINAL})
    assert federated != pytest.approx(wanted, abs=1e-3), "the other site makes a difference"


def test_what_the_hub_sends_does_not_touch_it(tmp_path: Path) -> None:
    found = []
    for shift in (0.0, 0.01):
        bench = Bench(tmp_path / str(shift), personal={"ditto": 0.1})
        for round in (1, 2):
            bench.train(round, bench.sent(shift))
        found.append(bench.models(2))
    assert same(found[0]["alone"], found[1]["alone"])
    for model in ("federated", "ditto"):
        assert not same(found[0][model], found[1][model])


def test_a_late_joiners_own_model_begins_when_it_comes(tmp_path: Path) -> None:
    """It warms its branches as the federated one does, so that both have had as much work."""
    found = []
    for shift in (0.0, 0.01):
        bench, heard = Bench(tmp_path / str(shift), training={"join_epochs": 1}), list[Progress]()
        bench.trainer.train(bench.order(2, bench.sent(shift)), heard.append)
        phases = [progress.phase for progress in heard if progress.loss is not None]
        assert len(phases) == 6
        assert phases[3:] == [f"alone: {phase}" for phase in phases[:3]]
        found.append(bench.models(2)["alone"])
        heard.clear()
        bench.trainer.train(bench.order(3, bench.sent(shift)), heard.append)
        assert len([progress for progress in heard if progress.loss is not None]) == 4, "only its first round is"
    assert same(*found)


def test_a_registered_encoder_is_taken_from_the_first_round() -> None:
    start = {"encoder.w": np.zeros(2, np.float32), "branches.mask.w": np.zeros(2, np.float32)}
    hub = {"encoder.w": np.ones(2, np.float32), "branches.mask.w": np.ones(2, np.float32)}
    wanted = {"encoder.w": hub["encoder.w"], "branches.mask.w": start["branches.mask.w"]}
    registered = make_study(encoder={"start": "a" * 64})
    for study, round, begins in ((registered, 1, wanted), (registered, 2, start), (make_study(), 1, start)):
        run = Run(study=study, site="north", round=round, device=CPU, received=hub)
        assert same(first_state(start, run), begins)


def test_only_the_federated_models_losses_are_in_the_journal(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.train(1, bench.sent())
    lines = (bench.site.journal / f"{bench.study.digest()}.jsonl").read_text().splitlines()
    assert len(lines) == len(read_epochs(bench.site.journal / f"{bench.study.digest()}.jsonl")) == 2


def test_each_model_rests_by_its_own_figures(tmp_path: Path) -> None:
    bench = Bench(tmp_path, training={"patience": 3})
    done = bench.train(1, bench.sent(0.05))
    for model, stage in (("federated", Stage.TRAINED), ("alone", Stage.ALONE)):
        for task in NAMES:
            best = bench.models(1)[model][f"branches.{task}.progress"][0]
            assert best == np.float32(figures(done.metrics, stage)[task, "val", "loss"])


def test_without_personal_models_nothing_is_as_if_there_were(tmp_path: Path) -> None:
    bench = Bench(tmp_path, personal={"alone": False})
    done = bench.train(1, bench.sent())
    assert {row.stage for row in done.metrics} == {Stage.RECEIVED, Stage.TRAINED}
    assert bench.models(1).keys() == {"federated"}
    last = bench.finish(Path(str(done.update)))
    assert ({row.stage for row in last.metrics}, last.kept) == ({Stage.FINAL}, {})
    assert bench.final().keys() == {"federated"}


def test_a_round_that_is_not_measured_has_no_figures_of_any_model(tmp_path: Path) -> None:
    bench = Bench(tmp_path, evaluation={"every": 2})
    assert bench.train(1, bench.sent()).metrics == ()
    assert Stage.ALONE in {row.stage for row in bench.train(2, bench.sent()).metrics}


def test_the_federated_update_is_the_same_with_others_beside_it(tmp_path: Path) -> None:
    states: list[tuple[Arrays, Arrays]] = []
    for personal in ({"alone": False}, {"alone": True, "ditto": 0.5}):
        bench = Bench(tmp_path / str(len(states)), personal=personal, branches={"dropout": 0.3})
        first = Path(str(bench.train(1, bench.sent()).update))
        second = read_state(Path(str(bench.train(2, first).update)))
        states.append((second, bench.models(2)["federated"]))
    assert same(states[0][0], states[1][0])
    assert same(states[0][1], states[1][1])


# Ditto


def test_ditto_stays_the_nearer_to_what_was_received_the_stronger_it_is_drawn(tmp_path: Path) -> None:
    training = {"schedule": "fedper", "optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0, "gradient_clip": 1e6}
    distances = {}
    for strength in (1e-6, 10.0, 50.0):  # the rate is 0.01: a step takes away up to half of the distance
        bench = Bench(tmp_path / str(strength), personal={"ditto": strength}, training=training)
        state = bench.sent(0.01)
        bench.train(1, state)
        received, mine = read_state(state), bench.models(1)["ditto"]
        distances[strength] = sum(float(((mine[name] - array) ** 2).sum()) for name, array in received.items())
        if strength == 1e-6:
            alone = bench.models(1)["alone"]
            assert all(np.allclose(mine[name], alone[name], atol=1e-5) for name in mine), "not drawn, it is alone"
    assert distances[1e-6] > 1.5 * distances[10.0] > 1.5 * 1.5 * distances[50.0]


# The model before


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_the_encoder_given_last_is_remembered_where_the_study_contrasts(tmp_path: Path, contrast: float) -> None:
    bench = Bench(tmp_path, training={"contrast": contrast})
    update = read_state(Path(str(bench.train(1, bench.sent()).update)))
    remembered = bench.models(1).get("previous", {})
    assert same(remembered, update if contrast else {})


def test_what_the_run_is_told_of_rounds_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Run] = []

    def noted(model: MultiTaskModel, data: Any, run: Run) -> Any:
        runs.append(run)
        return train_round(model, data, run)

    monkeypatch.setattr(module, "train_round", noted)
    bench = Bench(tmp_path, training={"contrast": 0.5, "proximal": 0.25}, personal={"alone": False}, rounds=3)
    state = bench.sent(0.01)
    first = Path(str(bench.train(1, state).update))
    bench.train(2, first)
    late = Bench(tmp_path / "late", training={"contrast": 0.5}, personal={"alone": False}, rounds=3)
    late.train(2, late.sent())
    assert [run.joins for run in runs] == [False, False, True]
    assert [run.previous is None for run in runs] == [True, False, True]
    assert same(dict(runs[1].previous or {}), read_state(first))
    assert [run.pull for run in runs] == [0.25, 0.25, 0.0]
    assert same(dict(runs[0].received or {}), read_state(state))


# The choice


def approval_of(**personal: Any) -> Approval:
    return Approval(make_study(personal=personal), ("bright", "area", "mask"), Schema(()))


FEDERATED = {"bright": 0.8, "area": 2.0, "mask": 0.5}
Keeps = Literal["better", "federated", "alone"]


@pytest.mark.parametrize(
    ("alone", "ditto", "kept"),
    [
        ({"bright": 0.9, "area": 1.0, "mask": 0.4}, {}, ("alone", "alone", "federated")),  # of area, the lower error
        ({"bright": 0.7, "area": 3.0, "mask": 0.6}, {}, ("federated", "federated", "alone")),
        (FEDERATED, FEDERATED, ("federated", "federated", "federated")),
        ({"bright": 0.9, "area": 1.0}, {"bright": 0.9, "area": 0.5, "mask": 0.6}, ("alone", "ditto", "ditto")),
        ({}, {"bright": 0.81}, ("ditto", "federated", "federated")),
    ],
)
def test_the_better_model_is_kept_and_the_federated_one_wins_ties(
    alone: dict[str, float], ditto: dict[str, float], kept: tuple[str, ...]
) -> None:
    judgements: dict[Kept, dict[str, float]] = {"federated": FEDERATED, "alone": alone, "ditto": ditto}
    assert tuple(chosen(approval_of(ditto=0.1), judgements, "better").values()) == kept


def test_where_the_federated_model_has_no_figure_it_is_kept() -> None:
    judgements: dict[Kept, dict[str, float]] = {"federated": {}, "alone": FEDERATED}
    assert set(chosen(approval_of(), judgements, "better").values()) == {"federated"}


@pytest.mark.parametrize(
    ("keeps", "personal", "kept"),
    [
        ("alone", {}, {"alone"}),
        ("federated", {}, {"federated"}),
        ("alone", {"alone": False, "ditto": 0.1}, {"federated"}),
        ("better", {"alone": False}, set()),
        ("alone", {"alone": False}, set()),
    ],
)
def test_a_policy_decides_whatever_the_figures_are(keeps: Keeps, personal: dict[str, Any], kept: set[str]) -> None:
    for alone in (0.1, 0.9):
        judgements: dict[Kept, dict[str, float]] = {
            "federated": {"bright": 0.5},
            "alone": {"bright": alone},
            "ditto": {},
        }
        assert set(chosen(approval_of(**personal), judgements, keeps).values()) == kept


def test_figures_of_the_kept_model_are_named_as_such() -> None:
    federated = Metric("bright", "test", Stage.FINAL, "auroc", 0.5, 5, low=0.4, high=0.6)
    alone = replace(federated, stage=Stage.ALONE_FINAL, value=0.75)
    rows = [federated, alone, replace(federated, task="area"), replace(alone, task="area")]
    wanted = [replace(alone, stage=Stage.KEPT), replace(federated, task="area", stage=Stage.KEPT)]
    assert kept_figures(rows, {"bright": "alone", "area": "federated"}) == wanted


def test_a_site_that_opts_out_keeps_and_reports_its_own_model(tmp_path: Path) -> None:
    bench = Bench(tmp_path, toml=f'{FEW}keeps = "alone"\n')
    done = bench.finish(Path(str(bench.train(1, bench.sent(0.05)).update)))
    assert done.kept == dict.fromkeys(NAMES, "alone")
    kept = figures(done.metrics, Stage.KEPT)
    assert kept == figures(done.metrics, Stage.ALONE_FINAL) != figures(done.metrics, Stage.FINAL)
    entry = Vault(bench.site.vault, bench.study.digest()).final()
    assert entry is not None
    assert entry.kept == done.kept

    model = MultiTaskModel(bench.study, NAMES)  # what predicts later: the kept model's arrays, as they lie there
    load_state(model, bench.final()["alone"])
    data = load_dataset(read_manifest(bench.site, bench.study, NAMES), bench.study)
    again = evaluate(model, data, bench.study, CPU, stage=Stage.KEPT, minimum=2)
    assert figures(tuple(again), Stage.KEPT) == pytest.approx(kept, abs=1e-6)


def test_figures_that_stay_decide_all_the_same(tmp_path: Path) -> None:
    """Four validation cases, where the site's policy lets nothing below five leave."""
    bench = Bench(tmp_path, toml="[policy]\nminimum_count = 5\n")
    model = MultiTaskModel(bench.study, NAMES)
    data = load_dataset(read_manifest(bench.site, bench.study, NAMES), bench.study)
    run = Run(
        study=bench.study, site="north", round=2, device=CPU, minimum=5, received=shared_arrays(model, bench.study)
    )
    turn = work_beside(model, data, run, "alone", state_of(model), final=True)
    assert turn.metrics == []
    assert turn.judged == judged(model, data, run)
    loose = evaluate(model, data, bench.study, CPU, stage=Stage.FINAL)
    assert turn.judged["area"] == figures(tuple(loose), Stage.FINAL)["area", "val", "mae"]
    done = bench.finish(Path(str(bench.train(1, bench.sent()).update)))
    assert done.metrics == ()
    assert done.kept.keys() == set(NAMES)


def test_a_finished_study_without_its_record_is_finished_again_with_the_same_bytes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, personal={"ditto": 0.1})
    state = Path(str(bench.train(1, bench.sent(0.05)).update))
    first, before = bench.finish(state), bench.final()
    [record] = (bench.site.spool / bench.study.digest()).glob("final-*.json")
    record.unlink()
    again = bench.finish(state)
    assert again.model_copy(update={"seconds": first.seconds}) == first
    assert before.keys() == bench.final().keys() == {"federated", *first.kept.values()}
    assert all(same(bench.final()[model], before[model]) for model in before)


# States


def test_a_state_is_put_back_as_it_was() -> None:
    study = make_study(tasks=NAMES)
    model, other = MultiTaskModel(study, NAMES), MultiTaskModel(study.model_copy(update={"seed": 4}), NAMES)
    mine, theirs = state_of(model), state_of(other)
    assert not same(mine, theirs)
    load_state(model, theirs)
    assert same(state_of(model), theirs)
    assert encoder_of(mine).keys() == schema_names(study)


def schema_names(study: Study) -> set[str]:
    return {spec.name for spec in schema_of(MultiTaskModel(study, NAMES), study).arrays}


@pytest.mark.parametrize("shape", [None, (3,)])
def test_a_state_of_another_model_is_a_problem(shape: tuple[int, ...] | None) -> None:
    model = MultiTaskModel(make_study(tasks=NAMES), NAMES)
    state = state_of(model)
    name = next(iter(encoder_of(state)))
    if shape is None:
        del state[name]
    else:
        state[name] = np.zeros(shape, np.float32)
    with pytest.raises(Problem, match="holds an encoder that this study's model does not have"):
        load_state(model, state)
