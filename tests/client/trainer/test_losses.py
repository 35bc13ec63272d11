"""Losses by hand, and what happens to cases without a label."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from polyward_client.trainer.dataset import Batch
from polyward_client.trainer.losses import case_losses, masked_mean, task_losses
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.tasks.ordinal import coral
from polyward_client.trainer.tasks.segmentation import mask_losses
from polyward_client.trainer.topology.flow import Outputs
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study


def test_a_loss_is_divided_by_the_labelled_count() -> None:
    each = torch.tensor([1.0, 100.0, 3.0, 100.0])
    assert masked_mean(each, torch.tensor([1.0, 0, 1, 0]), 2) == 2


def test_an_unlabelled_case_has_no_gradient_even_if_its_loss_is_not_finite() -> None:
    x = torch.tensor([1.0, math.inf], requires_grad=True)
    (gradient,) = torch.autograd.grad(masked_mean(x * 1, torch.tensor([1.0, 0.0]), 1), x)
    assert gradient.tolist() == [1, 0]


def test_a_task_without_labels_is_absent() -> None:
    study = make_study()
    model = MultiTaskModel(study, ("bright", "grade"))
    images = torch.rand(2, 1, 16, 16)
    batch = Batch(images, {"grade": torch.tensor([0, 2])}, {"grade": torch.ones(2)}, {"grade": 2})
    assert set(task_losses(model, Outputs(model(images)), batch)) == {"grade"}


def found_losses(
    task: dict[str, Any],
    output: list[Any],
    target: torch.Tensor,
    labelled: list[float],
    groups: list[int] | None = None,
) -> dict[str, float]:
    """What `task_losses` makes of one task's output, which is given twice: as the last answer and as an early one."""
    study = Study.model_validate({**make_study().model_dump(mode="json"), "tasks": {"it": task}})
    batch = Batch(
        torch.zeros(len(output), 1, 16, 16),
        {"it": target},
        {"it": torch.tensor(labelled)},
        {"it": int(sum(labelled))},
        {} if groups is None else {"it": torch.tensor(groups)},
    )
    answers = torch.tensor(output)
    losses = task_losses(MultiTaskModel(study, ("it",)), Outputs({"it": answers}, {"it": [answers]}), batch)
    return {name: loss.item() / 1.5 for name, loss in losses.items()}


COX = {"kind": "survival", "times": [1, 2], "loss": "cox"}


@pytest.mark.parametrize("groups", [None, [0, 0, 1, -1]])
def test_a_risk_set_without_an_event_is_absent(groups: list[int] | None) -> None:
    task = COX if groups is None else {**COX, "group": "patient"}
    labelled = [1.0, 1.0, 1.0, 0.0]
    none = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 1.0]])  # the only event is not labelled
    none[3] = math.nan
    assert found_losses(task, [[0.0]] * 4, none, labelled, groups) == {}
    one = none.clone()
    one[:2, 1] = 1.0  # one group, or two cases
    at_risk = 2 if groups else 3
    assert found_losses(task, [[0.0]] * 4, one, labelled, groups) == {"it": pytest.approx(math.log(at_risk))}


def test_an_event_that_no_other_patient_outlived_is_absent_however_many_images_show_it() -> None:
    target = torch.tensor([[1.0, 1.0]] * 2)
    assert found_losses({**COX, "group": "patient"}, [[0.0]] * 2, target, [1.0, 1.0], [0, 0]) == {}


def test_cases_that_teach_nothing_do_not_thin_the_mean() -> None:
    task = {"kind": "segmentation", "classes": ["lesion"], "ignore": 9}
    output = [[[[0.0] * 4], [[0.0] * 4]]] * 3
    alone = found_losses(task, output[:1], torch.zeros(1, 1, 4, dtype=torch.uint8), [1.0])
    target = torch.zeros(3, 1, 4, dtype=torch.uint8)
    target[1] = 9
    assert found_losses(task, output, target, [1.0, 1.0, 0.0]) == alone
    assert found_losses(task, output, target, [0.0, 1.0, 0.0]) == {}


def test_landmarks_of_which_none_is_seen_are_absent() -> None:
    task = {"kind": "landmark", "points": ["apex"]}
    target = torch.full((2, 1, 2), math.nan)
    output = [[[[0.0] * 8] * 8]] * 2
    assert found_losses(task, output, target, [1.0, 1.0]) == {}
    target[0] = 4.0
    assert found_losses(task, output, target, [1.0, 1.0]) == {"it": pytest.approx(math.log(2))}  # an empty map


@pytest.mark.parametrize(
    ("task", "output", "target", "wanted"),
    [
        ("bright", [[0.0]], [1.0], math.log(2)),
        ("shape", [[0.0, 0.0, 0.0]], [2], math.log(3)),
        ("grade", [[0.0, 0.0]], [1], math.log(2)),
        ("area", [[1.5]], [6.0], 0.125),  # the target is (6 - 4) / 2 = 1 after standardising
    ],
)
def test_losses_by_hand(task: str, output: Any, target: Any, wanted: float) -> None:
    study = make_study()
    model = MultiTaskModel(study, tuple(TASKS))
    model.head("area").get_buffer("target").copy_(torch.tensor([4.0, 2.0]))
    found = case_losses(model, task, torch.tensor(output), torch.tensor(target))
    assert found.tolist() == pytest.approx([wanted])


def test_coral_asks_whether_each_threshold_is_passed() -> None:
    output = torch.tensor([[2.0, -1.0]])
    wanted = -(math.log(1 / (1 + math.exp(-2))) + math.log(1 - 1 / (1 + math.exp(1)))) / 2
    assert coral(output, torch.tensor([1])).item() == pytest.approx(wanted)


def _empty(margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A confident and correct empty answer [1, 2, 32, 32] to an empty mask."""
    output = torch.zeros(1, 2, 32, 32)
    output[:, 0] = margin
    return output, torch.zeros(1, 32, 32, dtype=torch.uint8)


def test_dice_on_an_empty_mask_follows_the_policy() -> None:
    output, target = _empty(10.0)
    entropy = math.log1p(math.exp(-10))
    assert mask_losses(output, target, "keep").item() == pytest.approx(1, abs=1e-3)
    assert mask_losses(output, target, "smooth").item() == pytest.approx(0.044 + entropy, abs=2e-3)
    assert mask_losses(output, target, "skip").item() == pytest.approx(entropy, abs=1e-6)


@pytest.mark.parametrize("policy", ["keep", "smooth", "skip"])
def test_a_right_mask_costs_nothing_and_a_wrong_one_much(policy: str) -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.uint8)
    target[:, 2:5, 2:5] = 1
    right = 40 * torch.stack((1 - target.float(), target.float()), 1)
    assert mask_losses(right, target, policy).item() == pytest.approx(0, abs=1e-4)
    assert mask_losses(right.flip(1), target, policy).item() > 10


def test_skip_leaves_out_only_the_classes_that_are_missing() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    target[:, :2] = 1
    output = 40 * F.one_hot(target.long(), 3).permute(0, 3, 1, 2).float()
    assert mask_losses(output, target, "skip").item() == pytest.approx(0, abs=1e-4)
    assert mask_losses(output, target, "keep").item() == pytest.approx(0, abs=1e-4)


def test_the_cross_entropy_is_torchs() -> None:
    torch.manual_seed(0)
    output, target = torch.randn(3, 4, 5, 6, 7), torch.zeros(3, 5, 6, 7, dtype=torch.uint8)
    found = mask_losses(output, target, "skip")
    wanted = F.cross_entropy(output, target.long(), reduction="none").flatten(1).mean(1)
    assert torch.allclose(found, wanted, atol=1e-6)
