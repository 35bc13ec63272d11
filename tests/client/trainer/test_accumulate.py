"""Several batches in one step: the same step as one large batch, clipped once, and told whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyward_client.trainer.dataset import Batch, Dataset, epoch_batches, load_dataset
from polyward_client.trainer.journal import Epoch
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel, parts
from polyward_client.trainer.round import Run, optimisers_of, train_phase
from polyward_client.trainer.schedule import Phase
from polyward_client.trainer.step import train_step
from polyward_shared.problems import Refused
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

CPU = torch.device("cpu")
NAMES = ("bright", "mask")
EVERYTHING = {"encoder": 1.0, "personal": 1.0}


def study_of(*, clip: float = 1e9, **training: Any) -> Study:
    plain = {"optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0, "gradient_clip": clip}
    return make_study(tasks=NAMES, training={**plain, **training})


def run(study: Study, **changes: Any) -> Run:
    return Run(**{"study": study, "site": "north", "round": 1, "device": CPU, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    site, study = write_site(Path(tmp_path_factory.mktemp("site")), tasks=NAMES), study_of()
    return load_dataset(read_manifest(site, study, NAMES), study)


def moved(study: Study, batches: list[Batch], rates: Any = EVERYTHING) -> dict[str, torch.Tensor]:
    """By how much each part moves in one step."""
    model = MultiTaskModel(study, NAMES)
    before = {part: torch.cat([p.detach().flatten() for p in some]) for part, some in parts(model).items()}
    train_step(model, batches, run(study), optimisers_of(model, Phase("", 1, rates), run(study)))
    return {part: torch.cat([p.detach().flatten() for p in some]) - before[part] for part, some in parts(model).items()}


def pieces(data: Dataset, *places: list[int]) -> list[Batch]:
    return [data.batch(np.array(each), CPU) for each in places]


@pytest.mark.parametrize("kind", ["equal", "fixed"])
def test_two_batches_in_one_step_are_one_batch_of_both(data: Dataset, kind: str) -> None:
    study = study_of().model_copy(update={"balancer": make_study(balancer={"kind": kind}).balancer})
    two = moved(study, pieces(data, [0, 1], [5, 6]))
    one = moved(study, pieces(data, [0, 1, 5, 6]))
    for part in one:
        assert one[part].norm() > 0
        assert torch.allclose(two[part], one[part], rtol=1e-3, atol=1e-5), part


def test_the_sum_is_clipped_once_and_part_by_part(data: Dataset) -> None:
    clip = 0.05
    free, held = (moved(study_of(clip=c), pieces(data, [0, 1], [5, 6])) for c in (1e9, clip))
    for part in free:
        assert free[part].norm() > clip, "the bound must bind here"
        assert held[part].norm().item() == pytest.approx(clip, rel=1e-2)
        # clipped apart, the two batches would point elsewhere
        assert torch.nn.functional.cosine_similarity(held[part], free[part], 0).item() == pytest.approx(1, abs=1e-4)


def test_a_gradient_within_the_bound_is_left_alone(data: Dataset) -> None:
    free, held = (moved(study_of(clip=c), pieces(data, [0, 1])) for c in (1e9, 1e3))
    assert all(torch.equal(free[part], held[part]) for part in free)


def test_the_losses_of_a_step_are_those_of_all_its_batches(data: Dataset) -> None:
    study = study_of()

    def losses(batches: list[Batch]) -> dict[str, float]:
        model = MultiTaskModel(study, NAMES)
        found = train_step(model, batches, run(study), {}).losses
        return {task: loss.item() for task, loss in found.items()}

    first, second = pieces(data, [0, 1], [5, 6])
    both = {task: (losses([first])[task] + losses([second])[task]) / 2 for task in NAMES}
    assert losses([first, second]) == pytest.approx(both)
    only_bright = Batch(second.images, second.targets, second.labelled, {"bright": 2})
    assert losses([first, only_bright])["mask"] == pytest.approx(losses([first])["mask"])


def test_a_loss_that_is_not_finite_is_seen_in_every_batch_of_a_step(data: Dataset) -> None:
    study = study_of(accumulate=3, batch=4)
    broken = data.images.clone()
    broken[0] = torch.nan  # in one of the three batches of the only step
    for seed in range(3):
        model, other = MultiTaskModel(study, NAMES), run(study, round=seed + 1)
        with pytest.raises(Refused, match="training-failed"):
            train_phase(model, _with(data, broken), other, Phase("together", 1, {"encoder": 0.1, "personal": 0.1}))


def _with(data: Dataset, images: torch.Tensor) -> Dataset:
    return Dataset(
        images=images,
        targets=data.targets,
        rows=data.rows,
        labelled=data.labelled,
        splits=data.splits,
        patients=data.patients,
    )


def test_a_rest_that_is_smaller_is_a_step_of_its_own(data: Dataset) -> None:
    # 12 training images in batches of 4: three batches, so one step of two and one of one
    study, phase = study_of(accumulate=2, batch=4), Phase("together", 1, {"encoder": 1e-3, "personal": 1e-3})
    model, other = MultiTaskModel(study, NAMES), MultiTaskModel(study, NAMES)
    train_phase(model, data, run(study), phase)
    generator = np.random.default_rng(seed_for(study.seed, "batches", "north", 1, "together", 1))
    one, two, three = (data.batch(places, CPU) for places in epoch_batches(data.cases("train"), 4, generator))
    optimisers = optimisers_of(other, phase, run(study))
    train_step(other, [one, two], run(study), optimisers)
    train_step(other, [three], run(study), optimisers)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_scaler_survives_a_step_without_any_label(data: Dataset) -> None:
    study = study_of()
    model = MultiTaskModel(study, NAMES)
    (given,) = pieces(data, [0, 1])
    nothing = Batch(given.images, given.targets, given.labelled, {})
    optimisers = optimisers_of(model, Phase("", 1, {"encoder": 0.1, "personal": 0.1}), run(study))
    before = [p.detach().clone() for p in model.parameters()]
    train_step(model, [nothing], run(study), optimisers, torch.amp.GradScaler("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "same"), [({}, True), ({"site": "south"}, False), ({"round": 2}, False)], ids=["same", "site", "round"]
)
def test_order_and_variation_come_from_study_site_and_round(data: Dataset, change: dict[str, Any], same: bool) -> None:
    study = study_of(augmentation="photo")

    def told(given: Run) -> Epoch:
        found: list[Epoch] = []
        phase = Phase("together", 1, {"encoder": 1e-3, "personal": 1e-3})
        train_phase(MultiTaskModel(study, NAMES), data, Run(**{**_fields(given), "journal": found.append}), phase)
        return found[0]

    one, two = told(run(study)), told(run(study, **change))
    assert (one.losses == two.losses) == same


def _fields(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("study", "site", "round", "device")}
