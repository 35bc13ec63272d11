"""What joins the gradients of the tasks: the pull by hand, the contrast against autograd, neither where it is off."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel, parts, shared_arrays
from polyward_client.trainer.round import Run, optimisers_of, terms_of, train_phase, train_round
from polyward_client.trainer.schedule import Phase
from polyward_client.trainer.step import train_step
from polyward_client.trainer.terms import Terms, contrast, contrast_of, pooled, pull_of
from polyward_shared.states import Arrays
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

CPU = torch.device("cpu")
NAMES = ("bright", "mask")
PLAIN = {"optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0, "gradient_clip": 1e9}
EVERYTHING = Phase("together", 1, {"encoder": 1.0, "private": 1.0, "personal": 1.0})


def study_of(**changes: Any) -> Study:
    """Without figures before its last round."""
    fixed: dict[str, Any] = {"tasks": NAMES, "rounds": 9, "evaluation": {"every": 9}}
    return make_study(**fixed, **{**changes, "training": {**PLAIN, **changes.get("training", {})}})


def run(study: Study, **changes: Any) -> Run:
    return Run(**{"study": study, "site": "north", "round": 2, "device": CPU, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    site, study = write_site(Path(tmp_path_factory.mktemp("site")), tasks=NAMES), study_of()
    return load_dataset(read_manifest(site, study, NAMES), study)


def other_arrays(study: Study, seed: int) -> Arrays:
    """A shared state near the study's first, as if others had trained."""
    draw = np.random.default_rng(seed)
    arrays = shared_arrays(MultiTaskModel(study, NAMES), study)
    return {name: value + draw.normal(0, 0.05, value.shape).astype(np.float32) for name, value in arrays.items()}


def moved(
    study: Study, data: Dataset, strength: float = 0.0, received: Arrays | None = None, previous: Arrays | None = None
) -> dict[str, torch.Tensor]:
    """By how much each parameter moves in one step of plain descent at a rate of 1: its gradient, negative."""
    model = MultiTaskModel(study, NAMES)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    terms = Terms(pull_of(model, strength, received), contrast_of(model, study.training, received, previous))
    optimisers = optimisers_of(model, EVERYTHING, run(study))
    train_step(model, [data.batch(np.array([0, 1, 5]), CPU)], run(study), optimisers, terms=terms)
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


@pytest.mark.parametrize("branches", ["site", "task"])
def test_the_pull_adds_the_way_from_what_was_received(data: Dataset, branches: str) -> None:
    study = study_of(sharing={"branches": branches})
    model, received, strength = MultiTaskModel(study, NAMES), other_arrays(study, 1), 0.25
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    free, held = moved(study, data), moved(study, data, strength, received)
    for name, value in start.items():
        pull = strength * (value - torch.from_numpy(received[name])) if name in received else torch.zeros_like(value)
        assert torch.allclose(held[name], free[name] - pull, atol=1e-6), name
        assert bool(pull.any()) == (name.startswith("encoder") or branches == "task")


def test_the_pull_is_clipped_with_the_gradient(data: Dataset) -> None:
    study = study_of(training={"gradient_clip": 0.01})
    found = moved(study, data, 1e3, other_arrays(study, 1))
    length = torch.cat([value.flatten() for name, value in found.items() if name.startswith("encoder")]).norm()
    assert length.item() == pytest.approx(0.01, rel=1e-3)


def test_a_strong_pull_keeps_a_round_near_what_was_received(data: Dataset) -> None:
    study = study_of(training={"schedule": "fedper", "epochs": 3, "learning_rate": 0.02})
    received = shared_arrays(MultiTaskModel(study, NAMES), study)

    def drift(strength: float) -> float:
        model = MultiTaskModel(study, NAMES)
        train_round(model, data, run(study, pull=strength, received=received))
        return sum(float(((v - received[n]) ** 2).sum()) for n, v in shared_arrays(model, study).items())

    assert drift(20.0) < 0.5 * drift(0.0)


def test_the_contrast_by_hand() -> None:
    features, near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    # cosines 1 and 0 at a temperature of 0.5: -log(e^2 / (e^2 + 1))
    assert contrast(features, near, far, 0.5).item() == pytest.approx(np.log1p(np.exp(-2)))
    assert contrast(features, far, near, 0.5).item() == pytest.approx(np.log1p(np.exp(2)))
    assert contrast(features, near, near, 0.5).item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("private", [False, True], ids=["one encoder", "two"])
@pytest.mark.parametrize(
    "balancer", [{}, {"kind": "mgda"}, {"kind": "mgda", "space": "parameters"}, {"kind": "db_mtl"}]
)
def test_the_contrast_through_the_cut_is_what_autograd_finds(
    data: Dataset, balancer: dict[str, Any], private: bool
) -> None:
    weight, temperature = 0.7, 0.5
    training = {"contrast": weight, "contrast_temperature": temperature}
    study = study_of(training=training, sharing={"private_encoder": private}, balancer=balancer)
    model, received, previous = MultiTaskModel(study, NAMES), other_arrays(study, 1), other_arrays(study, 2)
    without, found = moved(study, data), moved(study, data, 0.0, received, previous)
    near, far = (deepcopy(model.encoder) for _ in range(2))
    for encoder, arrays in ((near, received), (far, previous)):
        encoder.load_state_dict({name.removeprefix("encoder."): torch.from_numpy(v) for name, v in arrays.items()})
    images = data.batch(np.array([0, 1, 5]), CPU).images
    z, z_near, z_far = (pooled(encoder(images)[-1]) for encoder in (model.encoder, near, far))
    one, two = (torch.exp(F.cosine_similarity(z, each.detach(), dim=1) / temperature) for each in (z_near, z_far))
    (-weight * torch.log(one / (one + two)).mean()).backward()  # type: ignore[no-untyped-call]
    moving = 0
    for name, parameter in model.named_parameters():
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        assert torch.allclose(without[name] - found[name], gradient, rtol=1e-3, atol=1e-6), name
        moving += bool(gradient.any())
    assert moving > 5
    assert not any(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.startswith("private"))


def test_a_round_brings_features_nearer_to_the_received_ones_and_away_from_the_last(data: Dataset) -> None:
    study = study_of(training={"schedule": "fedper", "contrast": 5.0, "learning_rate": 0.05})
    previous = other_arrays(study, 2)
    images = data.images[:8]

    def contrasted(last: Arrays | None) -> float:
        model = MultiTaskModel(study, NAMES)
        measure = contrast_of(model, study.training, None, previous)
        assert measure is not None
        train_round(model, data, run(study, previous=last))
        with torch.no_grad():
            z = [pooled(encoder(images)[-1]) for encoder in (model.encoder, measure.received, measure.previous)]
            return float(contrast(z[0], z[1], z[2], 0.5))

    assert contrasted(previous) < contrasted(None) - 1e-3


def bytes_after(study: Study, data: Dataset, **changes: Any) -> list[bytes]:
    model = MultiTaskModel(study, NAMES)
    train_round(model, data, run(study, **changes))
    return [value.numpy().tobytes() for value in model.state_dict().values()]


@pytest.mark.parametrize("schedule", ["fedper", "fedrep", "fedbabu"])
def test_without_weight_or_strength_not_a_bit_changes(data: Dataset, schedule: str) -> None:
    study = study_of(training={"schedule": schedule})
    given = {"received": other_arrays(study, 1), "previous": other_arrays(study, 2)}
    assert bytes_after(study, data) == bytes_after(study, data, **given)
    weighed = study_of(training={"schedule": schedule, "contrast": 1.0})
    assert bytes_after(weighed, data) != bytes_after(weighed, data, **given)
    assert bytes_after(study, data) != bytes_after(study, data, pull=0.1, **given)


def test_there_is_no_contrast_in_a_sites_first_round_or_with_itself(data: Dataset) -> None:
    study = study_of(training={"contrast": 1.0})
    model = MultiTaskModel(study, NAMES)
    assert terms_of(model, run(study, received=other_arrays(study, 1))) == Terms()
    same = shared_arrays(model, study)
    assert terms_of(model, run(study, received=same, previous=same)) == Terms()


def test_while_the_encoder_stands_still_nothing_is_contrasted(data: Dataset) -> None:
    study = study_of(training={"contrast": 1.0})
    phase = Phase("branches", 1, {"personal": 0.1})

    def trained(terms: Terms) -> list[bytes]:
        model = MultiTaskModel(study, NAMES)
        train_phase(model, data, run(study), phase, terms=terms)
        return [value.numpy().tobytes() for value in model.state_dict().values()]

    terms = Terms(contrast=contrast_of(MultiTaskModel(study, NAMES), study.training, None, other_arrays(study, 2)))
    assert trained(Terms()) == trained(terms)


def test_what_was_received_keeps_the_sites_own_norms(data: Dataset) -> None:
    """FedBN: the copies have the statistics and scales that the site has, for none were sent."""
    study = study_of(encoder={"norm": "batch"}, training={"contrast": 1.0})
    model = MultiTaskModel(study, NAMES)
    train_phase(model, data, run(study), EVERYTHING)
    received, previous = other_arrays(study, 1), other_arrays(study, 2)
    found = contrast_of(model, study.training, received, previous)
    assert found is not None
    assert not found.received.training
    own, near = model.encoder.state_dict(), found.received.state_dict()
    for name, value in near.items():
        wanted = torch.from_numpy(received[f"encoder.{name}"]) if f"encoder.{name}" in received else own[name]
        assert torch.equal(value, wanted), name
    before = {name: value.clone() for name, value in near.items()}
    train_phase(model, data, run(study), EVERYTHING, terms=Terms(contrast=found))
    assert all(torch.equal(value, before[name]) for name, value in found.received.state_dict().items())


def test_pulled_parameters_are_those_of_moving_parts(data: Dataset) -> None:
    study = study_of()
    received = other_arrays(study, 1)
    model = MultiTaskModel(study, NAMES)
    before = {part: [p.detach().clone() for p in some] for part, some in parts(model).items()}
    pull = Terms(pull_of(model, 1.0, received))
    train_phase(model, data, run(study), Phase("branches", 1, {"personal": 0.1}), terms=pull)
    assert all(torch.equal(a, b) for a, b in zip(before["encoder"], parts(model)["encoder"], strict=True))
