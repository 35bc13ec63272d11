"""Temperatures that are known beforehand, and errors by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyward_client.site import Site
from polyward_client.trainer.calibration import (
    bins,
    brier,
    calibrations,
    chances,
    expected_error,
    fit_temperature,
    likelihood,
)
from polyward_client.trainer.evaluate import Gathered
from polyward_client.trainer.finished import load_finished
from polyward_client.trainer.tasks import kinds_of
from polyward_client.trainer.vault import new_vault_key
from polyward_shared.study import Study
from tests.support.finished import finish_study
from tests.support.images import make_study

KINDS = kinds_of(make_study(), ("bright", "shape", "grade"))


def gathered(answers: Tensor, truths: Tensor) -> Gathered:
    return Gathered(torch.zeros(len(answers)), answers, truths, np.arange(len(answers)))


def test_of_answers_that_are_right_as_often_as_half_their_logit_says_the_temperature_is_two() -> None:
    """Logit 2 ln 3 promises 0.9 and keeps 0.75, whose logit is ln 3."""
    answers = torch.full((8, 1), 2 * math.log(3))
    truths = torch.tensor([1, 1, 1, 0, 1, 1, 1, 0])
    found = fit_temperature(KINDS["bright"], gathered(answers, truths), 5)
    assert found.temperature == pytest.approx(2, abs=1e-3)
    assert found.cases == 8
    assert chances(KINDS["bright"], answers, 2.0)[0].tolist() == pytest.approx([0.25, 0.75])


def test_several_classes() -> None:
    """Softmax of (2 ln 6, 0, 0) at T = 2 is (0.75, 0.125, 0.125)."""
    answers = torch.tensor([[2 * math.log(6), 0.0, 0.0]]).repeat(8, 1)
    truths = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2])
    assert fit_temperature(KINDS["shape"], gathered(answers, truths), 5).temperature == pytest.approx(2, abs=1e-3)


def test_an_ordinal_task_s_temperature_is_that_of_the_least_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(200, 1, generator=generator)
    answers = 4 * torch.cat((score + 0.5, score - 0.5), 1)
    truths = (torch.rand(200, 1, generator=generator) < torch.cat((score + 0.5, score - 0.5), 1).sigmoid()).sum(1)
    found = fit_temperature(KINDS["grade"], gathered(answers, truths), 5).temperature
    assert found is not None
    assert 2 < found < 8
    here, lower, higher = (likelihood(KINDS["grade"], answers, truths, t) for t in (found, 0.9 * found, 1.1 * found))
    assert here < min(lower, higher)


def test_without_enough_patients_two_classes_or_a_mistake_there_is_none() -> None:
    right = torch.tensor([[2.0], [-2.0]] * 4)
    truths = torch.tensor([1, 0] * 4)
    assert "fewer than policy.minimum_count (9)" in fit_temperature(KINDS["bright"], gathered(right, truths), 9).reason
    assert "all right" in fit_temperature(KINDS["bright"], gathered(right, truths), 5).reason
    assert "no better than chance" in fit_temperature(KINDS["bright"], gathered(right, 1 - truths), 5).reason
    assert "one class" in fit_temperature(KINDS["bright"], gathered(right, 0 * truths), 5).reason
    one = Gathered(torch.zeros(8), right, truths, np.zeros(8, np.int64))
    assert fit_temperature(KINDS["bright"], one, 2).temperature is None, "patients are counted, not their images"


def test_errors_by_hand() -> None:
    probabilities = torch.tensor([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.7, 0.3]], dtype=torch.float64)
    truths = torch.tensor([1, 0, 1, 0])
    # parts with 0.9 (half right), 0.6 (right), 0.7 (right): (2 * 0.4 + 0.4 + 0.3) / 4
    assert expected_error(probabilities, truths) == pytest.approx(0.375)
    assert sum(each.count for each in bins(probabilities, truths) if each) == 4
    assert brier(probabilities, truths) == pytest.approx((0.01 + 0.81 + 0.16 + 0.09) / 4)
    three = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
    assert brier(three, torch.tensor([2])) == pytest.approx(0.25 + 0.25 + 1)


def test_temperatures_are_kept_until_the_table_changes(finished_study: tuple[Site, Study, Path]) -> None:
    site, study, _ = finished_study
    read: list[int] = []
    finished = load_finished(site, study)
    first = calibrations(finished, site, lambda done, of: read.append(done))
    assert first.keys() == {"bright", "shape", "grade"}
    read.clear()
    assert calibrations(finished, site, lambda done, of: read.append(done)) == first
    assert read == []
    before = site.manifest.read_bytes()
    try:
        site.manifest.write_bytes(before + b"\n")
        calibrations(finished, site, lambda done, of: read.append(done))
    finally:
        site.manifest.write_bytes(before)
    assert read, "the validation images were read again"
    [folder] = [path for path in site.trainer.iterdir() if path.name == "calibration"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_beside_a_sealed_vault_nothing_is_kept_in_clear(tmp_path: Path) -> None:
    new_vault_key(tmp_path / "vault.key")
    toml = '[policy]\nminimum_count = 2\n[vault]\nkey = "vault.key"\n'
    site, study, _ = finish_study(tmp_path, tasks=("shape",), toml=toml)
    assert calibrations(load_finished(site, study), site).keys() == {"shape"}
    assert not (site.trainer / "calibration").exists()
