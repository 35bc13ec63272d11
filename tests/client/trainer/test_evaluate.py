"""Figures by hand, with their counts; what is undefined is absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.evaluate import Gathered, evaluate, figures
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.tasks.segmentation import overlaps
from polyward_shared.messages import Stage
from polyward_shared.tasks import METRICS
from tests.support.images import TASKS, make_study, write_site

STUDY = make_study()
MODEL = MultiTaskModel(STUDY, tuple(TASKS))


def measured(task: str, answers: list[list[float]], truths: list[float]) -> dict[str, tuple[float, int]]:
    kind = torch.float32 if task in {"bright", "area"} else torch.int64
    count = len(truths)
    found = Gathered(
        torch.ones(count), torch.tensor(answers).float(), torch.tensor(truths, dtype=kind), np.arange(count)
    )
    rows = figures(MODEL, task, found)
    return {name: (round(value, 4), count) for name, value, count in rows}


def test_binary() -> None:
    found = measured("bright", [[-1], [1], [2], [-2]], [0, 0, 1, 1])
    assert (found["auroc"], found["balanced_accuracy"], found["loss"]) == ((0.5, 4), (0.5, 4), (1.0, 4))
    assert (found["sensitivity"], found["specificity"]) == ((0.5, 2), (0.5, 2))
    assert measured("bright", [[-1], [1]], [0, 1])["auroc"] == (1.0, 2)


def test_one_class_alone_has_no_ranking() -> None:
    assert set(measured("bright", [[-1], [1]], [1, 1])) == {"sensitivity", "brier", "loss"}
    assert set(measured("shape", [[1, 0, 0]], [0])) == {"accuracy", "loss"}


def test_multiclass_ignores_classes_that_do_not_occur() -> None:
    found = measured("shape", [[3, 0, 0], [3, 0, 0], [0, 3, 0]], [0, 1, 1])
    assert found["balanced_accuracy"] == (0.75, 3)


def test_ordinal_counts_passed_thresholds() -> None:
    found = measured("grade", [[-1, -1], [1, -1], [1, 1], [1, 1]], [0, 1, 2, 0])
    assert found["mae"] == (0.5, 4)
    assert found["kappa"] == (round(1 - 1 / 1.625, 4), 4)  # mean squared error 1, by chance 1.625


def test_regression_is_in_the_labels_unit() -> None:
    MODEL.head("area").get_buffer("target").copy_(torch.tensor([10.0, 2.0]))
    found = measured("area", [[0.0], [1.0]], [10.0, 14.0])
    assert found["mae"] == (1.0, 2)
    assert found["r2"] == (0.5, 2)
    assert "r2" not in measured("area", [[0.0]], [10.0])
    MODEL.head("area").get_buffer("target").copy_(torch.tensor([0.0, 1.0]))


def test_dice_rests_on_images_with_a_lesion() -> None:
    target = torch.zeros(3, 2, 2, dtype=torch.uint8)
    target[0], target[1, 0] = 1, 1
    chosen = torch.zeros(3, 2, 2, dtype=torch.int64)
    chosen[:, :, 0] = 1  # the left column is called lesion everywhere
    scores = overlaps(chosen, target, 2)
    assert scores[0].tolist() == pytest.approx([2 / 3, 0.5, 1.0, 0.5])  # Dice, IoU, precision, recall
    assert scores[1].tolist() == pytest.approx([0.5, 1 / 3, 0.5, 0.5])
    assert bool(scores[2].isnan().all())
    assert measured("mask", scores.tolist(), [1, 1, 0])["dice"] == (0.5833, 2)


def test_counts_are_labelled_cases_of_the_split_and_names_are_the_known_ones(tmp_path: Path) -> None:
    site = write_site(tmp_path, unlabelled={"bright": [3]})
    data = load_dataset(read_manifest(site, STUDY, site.file.tasks), STUDY)
    rows = evaluate(MODEL, data, STUDY, torch.device("cpu"), stage=Stage.RECEIVED)
    counts = {(row.task, row.split): row.count for row in rows if row.name == "loss"}
    assert counts["bright", "val"] == 3
    assert counts["bright", "test"] == counts["grade", "val"] == 4
    assert all(row.name in METRICS[STUDY.tasks[row.task].kind] for row in rows)


def test_batching_does_not_change_a_figure(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    data = load_dataset(read_manifest(site, STUDY, site.file.tasks), STUDY)
    device = torch.device("cpu")
    big = evaluate(MODEL, data, make_study(training={"batch": 64}), device, stage=Stage.FINAL)
    small = evaluate(MODEL, data, make_study(training={"batch": 1}), device, stage=Stage.FINAL)
    assert [r.value for r in big] == pytest.approx([r.value for r in small], rel=1e-4, abs=1e-5)


def test_what_would_tell_of_few_patients_or_of_a_small_class_stays(tmp_path: Path) -> None:
    """Four images in a split, by four patients, two of them bright."""
    site = write_site(tmp_path)
    data = load_dataset(read_manifest(site, STUDY, site.file.tasks), STUDY)

    def names(minimum: int, task: str, given: Dataset = data) -> set[str]:
        rows = evaluate(MODEL, given, STUDY, torch.device("cpu"), stage=Stage.TRAINED, minimum=minimum)
        return {row.name for row in rows if row.task == task and row.split == "val"}

    assert {"auroc", "specificity", "loss"} <= names(2, "bright")
    assert names(3, "bright") == {"loss"}, "of one class there are two cases"
    assert names(4, "area") > {"loss"}
    assert names(5, "area") == set()
    twice = replace(data, patients=data.patients // 10)
    assert names(4, "area", twice) == set(), "patients are counted, not their images"
