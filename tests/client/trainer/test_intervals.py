"""Intervals of a site's last figures: by patients, from five of them on, the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyward_client.trainer.bootstrap import intervals
from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.evaluate import evaluate, gathered
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel
from polyward_shared.messages import Metric, Stage
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

CPU = torch.device("cpu")
NAMES = ("bright", "mask")


def study_of(resamples: int = 60, **changes: Any) -> Study:
    return make_study(tasks=NAMES, evaluation={"resamples": resamples, "splits": ["val"]}, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten validation images."""
    site = write_site(Path(tmp_path_factory.mktemp("site")), tasks=NAMES, images=50)
    return load_dataset(read_manifest(site, study_of(), NAMES), study_of())


def owned(data: Dataset, patients: int) -> Dataset:
    """The same images, of this many patients in the validation split."""
    numbers = np.arange(len(data.patients)) + 100
    numbers[data.cases("val")] = np.arange(10) % patients
    return replace(data, patients=numbers)


def measured(data: Dataset, study: Study, stage: Stage = Stage.FINAL) -> dict[tuple[str, str], Metric]:
    model = MultiTaskModel(study, NAMES)
    return {(row.task, row.name): row for row in evaluate(model, data, study, CPU, stage=stage)}


@pytest.mark.parametrize("patients", [4, 5, 10])
def test_an_interval_needs_five_patients_however_many_images_they_have(data: Dataset, patients: int) -> None:
    rows = measured(owned(data, patients), study_of())
    assert all(row.count <= 10 for row in rows.values())
    for key in (("bright", "loss"), ("mask", "loss"), ("bright", "brier")):
        low, high = rows[key].low, rows[key].high
        if patients < 5:
            assert low is None
            assert high is None
        else:
            assert low is not None
            assert high is not None
            assert low < rows[key].value < high


def test_patients_are_drawn_and_not_images(data: Dataset) -> None:
    apart, together = (measured(owned(data, count), study_of(200))["bright", "loss"] for count in (10, 5))
    assert apart.value == together.value
    assert (apart.low, apart.high) != (together.low, together.high)
    # With two images each, the mean over the images of drawn patients is the mean of the patients' own means.
    study = study_of(200)
    with torch.no_grad():
        found = gathered(MultiTaskModel(study, NAMES), owned(data, 5), study, "val", CPU)["bright"]
    means = np.array([float(found.losses[found.patients == patient].double().mean()) for patient in range(5)])
    generator = np.random.default_rng(seed_for(study.seed, "bootstrap", "bright", "val"))
    wanted = intervals(lambda drawn: {"loss": float(means[drawn].mean())}, np.arange(5), 200, generator)["loss"]
    assert (together.low, together.high) == pytest.approx(wanted)


def test_the_studys_seed_alone_decides(data: Dataset) -> None:
    one, again, other = (measured(owned(data, 5), study_of(seed=seed)) for seed in (3, 3, 4))
    assert one == again
    key = ("mask", "dice")
    assert (one[key].low, one[key].high) != (other[key].low, other[key].high)
    assert measured(owned(data, 5), study_of(20))["bright", "loss"] != one["bright", "loss"]


@pytest.mark.parametrize("stage", [Stage.RECEIVED, Stage.TRAINED])
def test_only_the_last_figures_have_intervals(data: Dataset, stage: Stage) -> None:
    rows = measured(owned(data, 10), study_of(), stage)
    assert all(row.low is row.high is None for row in rows.values())


def test_no_resamples_no_intervals(data: Dataset) -> None:
    assert all(row.low is None for row in measured(owned(data, 10), study_of(0)).values())
