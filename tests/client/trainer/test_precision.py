"""How sure a site is of each value: squared gradients, their proportions, and how they leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel, load_shared, schema_of, shared_arrays
from polyward_client.trainer.precision import Squares
from polyward_client.trainer.round import Run, finish_round, train_round
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

CPU = torch.device("cpu")
NAMES = ("bright", "mask")
STUDY = make_study(tasks=NAMES, aggregation={"rule": "precision"}, training={"schedule": "fedper"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    site = write_site(Path(tmp_path_factory.mktemp("site")), tasks=NAMES)
    return load_dataset(read_manifest(site, STUDY, NAMES), STUDY)


def run(study: Study) -> Run:
    return Run(study=study, site="north", round=1, device=CPU)


def parameter(*gradient: float) -> nn.Parameter:
    found = nn.Parameter(torch.zeros(len(gradient)))
    found.grad = torch.tensor(gradient)
    return found


def test_of_a_quadratic_they_are_its_curvatures_squared() -> None:
    """L = sum a_i theta_i^2 / 2 at theta = 1 has the gradient a, in every step."""
    curvature = torch.tensor([1.0, 2.0, 4.0])
    theta = nn.Parameter(torch.ones(3))
    squares = Squares({"precision.encoder.x": theta})
    for _ in range(5):
        theta.grad = None
        (curvature * theta**2 / 2).sum().backward()  # type: ignore[no-untyped-call]
        squares.add()
    assert squares.arrays()["precision.encoder.x"].tolist() == pytest.approx([3 / 21, 12 / 21, 48 / 21])


def test_older_steps_count_less() -> None:
    one = parameter(1.0, 0.0)
    squares = Squares({"x": one})
    squares.add()
    one.grad = torch.tensor([0.0, 1.0])
    squares.add()  # 0.9 * 0.1 against 0.1
    assert squares.arrays()["x"].tolist() == pytest.approx([1.8 / 1.9, 2 / 1.9])


def test_the_mean_over_all_arrays_is_one_and_a_missing_gradient_is_none() -> None:
    idle = parameter(0.0)
    idle.grad = None
    squares = Squares({"x": parameter(1.0, 3.0), "y": parameter(2.0), "z": idle})
    squares.add()
    found = squares.arrays()
    assert [found[name].tolist() for name in "xyz"] == [
        pytest.approx(values) for values in ([4 / 14, 36 / 14], [16 / 14], [0])
    ]


@pytest.mark.parametrize("steps", [0, 2])
def test_without_any_gradient_all_values_are_equally_sure(steps: int) -> None:
    squares = Squares({"x": parameter(0.0, 0.0), "y": parameter(0.0)})
    for _ in range(steps):
        squares.add()
    assert {name: value.tolist() for name, value in squares.arrays().items()} == {"x": [1, 1], "y": [1]}


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 1e30])
def test_a_step_that_overflowed_leaves_no_trace(broken: float) -> None:
    one, two = parameter(1.0), parameter(3.0)
    squares = Squares({"x": one, "y": two})
    squares.add()
    before = squares.arrays()
    one.grad, two.grad = torch.tensor([2.0]), torch.tensor([broken])
    squares.add()
    assert squares.arrays() == before


def test_they_leave_under_the_encoders_names(data: Dataset) -> None:
    model = MultiTaskModel(STUDY, NAMES)
    first = shared_arrays(model, STUDY)
    encoder = {name: value for name, value in first.items() if name.startswith("encoder.")}
    assert list(first) == [*encoder, *(f"precision.{name}" for name in encoder)]
    assert all(bool((first[f"precision.{name}"] == 1).all()) for name in encoder)
    trained = train_round(model, data, run(STUDY))
    assert [*trained.precision] == [f"precision.{name}" for name in encoder]
    values = np.concatenate([value.ravel() for value in trained.precision.values()])
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.mean() == pytest.approx(1, rel=1e-5)
    assert values.std() > 0.1
    schema_of(model, STUDY).check({**shared_arrays(model, STUDY), **trained.precision})


def test_collecting_them_changes_no_weight_and_no_other_rule_asks(data: Dataset) -> None:
    plain = make_study(tasks=NAMES, training={"schedule": "fedper"})
    one, two = MultiTaskModel(STUDY, NAMES), MultiTaskModel(plain, NAMES)
    train_round(one, data, run(STUDY))
    assert train_round(two, data, run(plain)).precision == {}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert finish_round(one, data, run(STUDY)).precision == {}


def test_received_ones_are_ignored(data: Dataset) -> None:
    model = MultiTaskModel(STUDY, NAMES)
    arrays = shared_arrays(model, STUDY)
    load_shared(model, STUDY, {n: v * 7 if n.startswith("precision.") else v for n, v in arrays.items()})
    assert all(np.array_equal(value, arrays[name]) for name, value in shared_arrays(model, STUDY).items())
