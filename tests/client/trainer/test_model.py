"""Encoder, branches and the groups that they form."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from polyward_client.trainer.encoders import build_encoder, initialise, pyramid_of
from polyward_client.trainer.model import (
    MultiTaskModel,
    load_personal,
    load_shared,
    parts,
    personal_arrays,
    schema_of,
    shared_arrays,
)
from polyward_client.trainer.tasks.ordinal import Ordered
from polyward_shared.problems import Problem, Refused
from polyward_shared.schema import Schema
from tests.support.images import TASKS, make_study

SIZES = [[16, 16], [8, 8, 8]]


def test_the_pyramid_is_finest_first() -> None:
    study = make_study(encoder={"filters": 4, "blocks": [1, 1, 1], "groups": 2})
    levels = build_encoder(study)(torch.zeros(2, 1, 16, 16))
    assert [tuple(level.shape[1:]) for level in levels] == [(4, 16, 16), (8, 8, 8), (16, 4, 4)]
    assert pyramid_of(study).channels == (4, 8, 16)


@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
def test_every_task_has_its_output(size: list[int]) -> None:
    study = make_study(image={"size": size})
    outputs = MultiTaskModel(study, tuple(TASKS))(torch.rand(2, 1, *size))
    shapes = {name: tuple(output.shape[1:]) for name, output in outputs.items()}
    assert shapes == {"bright": (1,), "shape": (3,), "grade": (2,), "area": (1,), "mask": (2, *size)}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
def test_every_parameter_of_encoder_and_branch_receives_a_gradient(task: str, size: list[int]) -> None:
    study = make_study(image={"size": size})
    model = MultiTaskModel(study, (task,))
    model(torch.rand(2, 1, *study.image.size))[task].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_groups_are_disjoint_complete_and_named_by_their_prefix() -> None:
    model = MultiTaskModel(make_study(), tuple(TASKS))
    groups = parts(model)
    assert set(groups) == {"encoder"} | {f"branches.{task}" for task in TASKS}
    found = [id(p) for group in groups.values() for p in group]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert all(name.split(".")[0] in {"encoder", "branches"} for name, _ in model.named_parameters())


def test_buffers_are_what_a_site_remembers() -> None:
    model = MultiTaskModel(make_study(), tuple(TASKS))
    kept = set(model.state_dict()) - {name for name, _ in model.named_parameters()}
    progress = {f"branches.{task}.progress" for task in TASKS}
    assert kept == {"branches.area.head.target", "balancer.reference"} | progress


def test_the_first_state_depends_on_the_study_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    one = shared_arrays(MultiTaskModel(make_study(), ("bright",)), make_study())
    torch.manual_seed(2)
    two = shared_arrays(MultiTaskModel(make_study(), ("mask", "area")), make_study())
    other = shared_arrays(MultiTaskModel(make_study(seed=4), ("bright",)), make_study())
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["encoder.conv_init.weight"], other["encoder.conv_init.weight"])


def test_first_weights_are_these_bytes_on_every_machine() -> None:
    layer = torch.nn.Linear(6, 2)
    initialise(layer, 5)
    assert layer.weight.abs().max() <= 1
    assert hashlib.sha256(layer.weight.detach().numpy().tobytes()).hexdigest()[:16] == "946c2a65ef564724"


def test_branches_of_a_task_start_equal_at_every_site() -> None:
    study = make_study()
    one = personal_arrays(MultiTaskModel(study, ("bright", "mask")), study)
    two = personal_arrays(MultiTaskModel(study, ("grade", "mask")), study)
    assert all(np.array_equal(one[name], two[name]) for name in one if name.startswith("branches.mask."))


def test_shared_and_personal_arrays_divide_the_state() -> None:
    for branches in ("site", "task"):
        study = make_study(sharing={"branches": branches})
        model = MultiTaskModel(study, tuple(TASKS))
        shared, personal = shared_arrays(model, study), personal_arrays(model, study)
        assert set(shared) | set(personal) == set(model.state_dict())
        assert not set(shared) & set(personal)
        assert "branches.area.head.target" in personal
        assert any(name.startswith("branches.") for name in shared) == (branches == "task")


def test_the_schema_is_that_of_the_shared_arrays_and_the_same_for_all_tasks() -> None:
    study = make_study()
    one, all_ = (schema_of(MultiTaskModel(study, tasks), study) for tasks in (("bright",), tuple(TASKS)))
    assert one == all_
    one.check(shared_arrays(MultiTaskModel(study, ("mask",)), study))


def test_loading_gives_back_what_was_saved() -> None:
    study = make_study()
    model, other = (MultiTaskModel(s, tuple(TASKS)) for s in (study, make_study(seed=9)))
    load_shared(other, study, shared_arrays(model, study))
    load_personal(other, study, personal_arrays(model, study))
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in pairs)


def test_a_state_that_does_not_fit_is_refused() -> None:
    study = make_study()
    model = MultiTaskModel(study, ("bright", "mask"))
    arrays = shared_arrays(model, study)
    with pytest.raises(Refused, match="egress-schema"):
        load_shared(model, study, {**arrays, "encoder.more": np.zeros(1, np.float32)})
    with pytest.raises(Problem, match="holds branches"):
        load_personal(model, study, personal_arrays(MultiTaskModel(study, ("bright",)), study))
    assert Schema.of(arrays).size > 0


@pytest.mark.parametrize("thresholds", [1, 2, 5])
def test_ordered_probabilities_fall_whatever_the_parameters(thresholds: int) -> None:
    torch.manual_seed(0)
    head = Ordered(3, thresholds)
    for scale in (0.0, 1.0, 30.0):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.copy_(torch.randn_like(parameter) * scale)
        chances = head(torch.randn(50, 3)).sigmoid()
        assert bool((chances.diff(dim=1) <= 0).all())


def test_at_first_every_grade_is_equally_likely() -> None:
    head = Ordered(3, 3)
    chances = head(torch.zeros(1, 3)).sigmoid()[0].tolist()
    assert chances == pytest.approx([0.75, 0.5, 0.25])
