"""A second encoder beside the shared one: it learns, the branches see it, and nothing of it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.encoders import pyramid_of
from polyward_client.trainer.losses import task_losses
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel, parts, personal_arrays, schema_of, shared_arrays
from polyward_client.trainer.round import Run, finish_round, optimisers_of, train_phase, train_round
from polyward_client.trainer.schedule import Phase
from polyward_client.trainer.step import train_step
from polyward_shared.schema import group_of
from polyward_shared.study import Study
from tests.client.trainer.encoders.studies import FORMS, SMALL, study_of
from tests.support.images import TOPOLOGIES, make_study, write_site

CPU = torch.device("cpu")
NAMES = ("bright", "area", "mask")
BALANCERS = ("equal", "famo", "gradnorm", "pcgrad", "cagrad", "db_mtl", "upgrad")


def two_encoders(**changes: Any) -> Study:
    """Without figures before its last round."""
    fixed: dict[str, Any] = {
        "tasks": NAMES,
        "rounds": 9,
        "evaluation": {"every": 9},
        "sharing": {"private_encoder": True},
    }
    return make_study(**fixed, **changes)


def run(study: Study, **changes: Any) -> Run:
    return Run(**{"study": study, "site": "north", "round": 1, "device": CPU, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    site, study = write_site(Path(tmp_path_factory.mktemp("site")), tasks=NAMES), two_encoders()
    return load_dataset(read_manifest(site, study, NAMES), study)


def state(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], model: MultiTaskModel) -> set[str]:
    now = model.state_dict()
    names = {name for name in before if not torch.equal(before[name], now[name]) and not name.endswith("progress")}
    return {group_of(name) for name in names} - {"balancer"}


@pytest.mark.parametrize("kind", SMALL)
def test_branches_see_every_level_twice(kind: str) -> None:
    plain = study_of(kind)
    both = plain.model_copy(update={"sharing": plain.sharing.model_copy(update={"private_encoder": True})})
    assert pyramid_of(both).channels == tuple(2 * width for width in FORMS[kind][0])
    assert pyramid_of(both).used == pyramid_of(plain).used
    model = MultiTaskModel(both, ("bright",))
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert model.private is not None
    levels = zip(model.pyramid(images), model.encoder(images), model.private(images), strict=True)
    for both_levels, shared, private in levels:
        assert torch.equal(both_levels, torch.cat((shared, private), 1))
        assert not torch.equal(shared, private), "it starts with values of its own"


def test_nothing_of_it_crosses_and_all_of_it_is_kept() -> None:
    study, plain = two_encoders(), make_study(tasks=NAMES)
    model = MultiTaskModel(study, NAMES)
    assert schema_of(model, study) == schema_of(MultiTaskModel(plain, NAMES), plain)
    kept = {name for name in personal_arrays(model, study) if name.startswith("private.")}
    assert {name.removeprefix("private.") for name in kept} == set(model.encoder.state_dict())
    shared = shared_arrays(model, study)
    one, two = (MultiTaskModel(study, names).state_dict() for names in (NAMES, ("mask",)))
    assert all(torch.equal(one[name], two[name]) for name in kept)
    secret = b"".join(np.ascontiguousarray(value).tobytes() for value in shared.values())
    weights = [value for name, value in personal_arrays(model, study).items() if name in kept and value.std() > 0]
    assert not any(value.tobytes() in secret for value in weights)


@pytest.mark.parametrize("schedule", ["fedper", "fedrep", "fedbabu"])
def test_it_moves_in_every_phase(data: Dataset, schedule: str) -> None:
    study = two_encoders(training={"schedule": schedule})
    model = MultiTaskModel(study, NAMES)
    before = state(model)
    train_round(model, data, run(study))
    branches = set() if schedule == "fedbabu" else {f"branches.{task}" for task in NAMES}
    assert changed(before, model) == {"encoder", "private"} | branches
    before = state(model)
    finish_round(model, data, run(study))
    assert changed(before, model) == {"private", *(f"branches.{task}" for task in NAMES)}


@pytest.mark.parametrize("private", [True, False])
def test_while_the_encoder_stands_still_the_balancer_is_not_asked(data: Dataset, private: bool) -> None:
    study = two_encoders(balancer={"kind": "db_mtl"})
    model = MultiTaskModel(study, NAMES)
    before = state(model)
    rates: Any = {"private": 0.01, "personal": 0.01} if private else {"personal": 0.01}
    train_phase(model, data, run(study), Phase("branches", 1, rates))
    assert model.balancer.get_buffer("averages").shape == (3, 0)
    assert ("private" in changed(before, model)) == private
    assert "encoder" not in changed(before, model)


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_every_topology_trains_it(data: Dataset, topology: dict[str, Any]) -> None:
    study = two_encoders(topology=topology, training={"schedule": "fedper"})
    model = MultiTaskModel(study, NAMES)
    before = state(model)
    train_round(model, data, run(study))
    assert {"encoder", "private"} <= changed(before, model)


@pytest.mark.parametrize("space", ["features", "parameters"])
@pytest.mark.parametrize("kind", BALANCERS)
def test_every_sort_of_balancer_reaches_it(data: Dataset, kind: str, space: str) -> None:
    study = two_encoders(balancer={"kind": kind, "space": space})  # fedrep: two phases with different parts
    model = MultiTaskModel(study, NAMES)
    for number in (1, 2):
        before = state(model)
        train_round(model, data, run(study, round=number))
        assert {"encoder", "private"} <= changed(before, model)


def test_through_the_cut_both_encoders_get_the_plain_gradient(data: Dataset) -> None:
    plain_descent = {"optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0, "gradient_clip": 1e9}
    study = two_encoders(training=plain_descent)
    batch = data.batch(np.array([0, 1, 5]), CPU)
    plain, cut = MultiTaskModel(study, NAMES), MultiTaskModel(study, NAMES)
    assert list(parts(cut))[:2] == ["encoder", "private"]
    outputs = plain.answer(plain.pyramid(batch.images), (16, 16))
    torch.stack(list(task_losses(plain, outputs, batch).values())).mean().backward()  # type: ignore[no-untyped-call]
    before = {name: p.detach().clone() for name, p in cut.named_parameters()}
    optimisers = optimisers_of(cut, Phase("", 1, {"encoder": 1.0, "private": 1.0, "personal": 1.0}), run(study))
    train_step(cut, [batch], run(study), optimisers)
    wanted = dict(plain.named_parameters())
    for name, parameter in cut.named_parameters():
        gradient = wanted[name].grad
        assert gradient is not None
        assert torch.allclose(before[name] - parameter.detach(), gradient, rtol=1e-3, atol=1e-5), name
    assert all(bool(p.grad.any()) for p in parts(plain)["private"] if p.grad is not None)
