"""Masks with places that nobody judged, and masks that show only some of the classes: two voxels, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polyward_client.trainer.form import shaped_mask
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks import TaskKind, kind_of
from polyward_client.trainer.tasks.segmentation import mask_losses, surfaces
from polyward_shared.study import Study
from tests.support.images import make_study

HEAD = nn.Identity()
LOSSES, POLICIES = ("dice_ce", "dice_focal", "tversky"), ("smooth", "skip", "keep")


def kind(*classes: str, labelled: tuple[str, ...] = (), policy: str = "smooth", **task: Any) -> TaskKind:
    data = make_study(training={"empty_mask": policy}).model_dump(mode="json")
    tasks = {"organ": {"kind": "segmentation", "classes": classes, **task}}
    return kind_of(Study.model_validate({**data, "tasks": tasks}), "organ", labelled)


def voxels(*rows: list[float]) -> Tensor:
    """Logits of voxels in a line: [1, classes, 1, voxels]."""
    return torch.tensor(rows).T[None, :, None].clone().requires_grad_()


def mask(*labels: int) -> Tensor:
    return torch.tensor([[labels]], dtype=torch.uint8)


def gradient(kind: TaskKind, output: Tensor, target: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(kind.losses(output, target, HEAD).sum(), output)
    return found[0, :, 0]


# Places that nobody judged


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_place_that_nobody_judged_counts_nowhere(loss: str, policy: str) -> None:
    judge = kind("a", ignore=9, loss=loss, policy=policy)
    output = voxels([0.3, -0.2], [1.0, 2.0])
    found = gradient(judge, output, mask(1, 9))
    assert found[:, 0].abs().min() > 0
    assert found[:, 1].tolist() == [0, 0]
    alone = kind("a", loss=loss, policy=policy).losses(output[..., :1], mask(1), HEAD)
    assert torch.allclose(judge.losses(output, mask(1, 9), HEAD), alone)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_mask_without_any_judgement_has_no_loss(loss: str, policy: str) -> None:
    judge, output = kind("a", "b", ignore=9, loss=loss, policy=policy), voxels([1.0, 2.0, 3.0], [0.0, 4.0, 0.0])
    assert judge.losses(output, mask(9, 9), HEAD).tolist() == pytest.approx([0.0], abs=1e-6)
    assert gradient(judge, output, mask(9, 9)).abs().max() == 0


def test_figures_leave_out_what_nobody_judged() -> None:
    judge, output = kind("a", ignore=9), voxels([0.0, 5.0], [0.0, 5.0], [5.0, 0.0])  # called 1, 1, 0
    dice, iou, precision, recall = judge.answers(output, mask(1, 9, 0))[0].tolist()
    assert (dice, iou, precision, recall) == (1, 1, 1, 1)
    assert judge.answers(output, mask(1, 0, 0))[0, 0].item() == pytest.approx(2 / 3)
    assert bool(judge.answers(output, mask(9, 9, 9)).isnan().all())
    assert list(judge.figures(judge.answers(output, mask(9, 9, 9)), torch.zeros(1), HEAD)) == []


def test_a_turned_mask_is_filled_with_what_nobody_judged() -> None:
    assert (kind("a", ignore=9).fill, kind("a").fill) == (9, 0)


# Masks that show only some of the classes


def by_hand(labelled_chances: tuple[float, float], *, smooth: float = 1.0) -> float:
    """Dice and cross-entropy of one class against all else: its chances at a voxel of the rest and at its own."""
    at_rest, at_a = labelled_chances
    dice = 1 - (2 * at_a + smooth) / (at_rest + at_a + 1 + smooth)
    return dice - (math.log(1 - at_rest) + math.log(at_a)) / 2


def test_classes_that_a_site_does_not_label_count_as_background() -> None:
    output = voxels([0.0, 0.0, math.log(2)], [0.0, math.log(6), 0.0])  # chances 1/4 1/4 1/2, and 1/8 6/8 1/8
    found = kind("a", "b", labelled=("a",)).losses(output, mask(0, 1), HEAD)
    assert found.tolist() == pytest.approx([by_hand((0.25, 0.75))], abs=1e-5)
    everything = kind("a", "b").losses(output, mask(0, 1), HEAD)
    assert everything.item() > found.item() + 0.1  # here the second voxel of `b` would have been called wrong


def test_between_background_and_unlabelled_classes_the_loss_has_no_opinion() -> None:
    part = kind("a", "b", labelled=("a",))
    output = voxels([0.2, 0.1, 1.3], [0.4, 2.0, -1.0])
    found, chances = gradient(part, output, mask(0, 1)), output.softmax(1)[0, :, 0]
    # Both move together as their chances, so that the one's share of the two stays as it is.
    assert torch.allclose(found[0] / chances[0], found[2] / chances[2], atol=1e-6)
    swapped = output.detach()[:, [2, 1, 0]]
    assert torch.allclose(part.losses(swapped, mask(0, 1), HEAD), part.losses(output, mask(0, 1), HEAD))


def test_a_later_class_keeps_its_own_logit() -> None:
    part = kind("a", "b", labelled=("b",))
    output = voxels([0.0, math.log(2), 0.0], [0.0, 0.0, math.log(6)])
    assert part.losses(output, mask(0, 2), HEAD).tolist() == pytest.approx([by_hand((0.25, 0.75))], abs=1e-5)
    assert part.losses(output, mask(1, 2), HEAD).tolist() == part.losses(output, mask(0, 2), HEAD).tolist()


def test_figures_skip_classes_that_a_site_does_not_label() -> None:
    called = voxels([0.0, 5.0, 0.0], [0.0, 0.0, 5.0], [5.0, 0.0, 0.0])  # a, b, background
    target = mask(1, 0, 0)
    assert kind("a", "b", labelled=("a",)).answers(called, target)[0].tolist() == [1, 1, 1, 1]
    # not even where the background and the hidden class win only together
    torn = voxels([0.0, 5.0, 0.0], [1.0, 1.2, 1.0], [5.0, 0.0, 0.0])
    assert kind("a", "b", labelled=("a",)).answers(torn, target)[0, 2].item() == 1
    assert kind("a", "b").answers(torn, target)[0, 2].item() == 0.5


def test_unlabelled_and_unjudged_go_together() -> None:
    part = kind("a", "b", "c", labelled=("c",), ignore=255)
    output = voxels([0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 2.0], [0.0, 3.0, 0.0, 1.0])
    found = gradient(part, output, mask(0, 3, 255))
    assert found[:, 2].abs().max() == 0
    assert torch.allclose(
        part.losses(output, mask(0, 3, 255), HEAD),
        kind("a", "b", "c", labelled=("c",)).losses(output[..., :2], mask(0, 3), HEAD),
    )
    assert part.answers(output, mask(0, 3, 255))[0, 3].item() == 1


# The losses by name, and distances


@pytest.mark.parametrize(
    ("loss", "overlap", "rest"),
    [
        # two voxels, both with chance 1/2: Dice 1 - (1 + 1) / (2 + 1), Tversky 1 - 1.5 / (0.5 + 0.15 + 0.35 + 1)
        ("dice_ce", 1 / 3, math.log(2)),
        ("dice_focal", 1 / 3, math.log(2) / 4),
        ("tversky", 0.25, math.log(2)),
    ],
)
def test_losses_by_name(loss: str, overlap: float, rest: float) -> None:
    found = mask_losses(torch.zeros(1, 2, 1, 2), mask(0, 1), "smooth", loss=loss)
    assert found.tolist() == pytest.approx([overlap + rest], abs=1e-5)


def test_surfaces_one_pixel_apart() -> None:
    chosen, target = torch.zeros(2, 8, 8, dtype=torch.int64), torch.zeros(2, 8, 8, dtype=torch.int64)
    chosen[0, 2, 2], target[:, 2, 3] = 1, 1  # nothing is called in the second case
    found = surfaces(chosen, target, 2, 1.0)
    assert found[0].tolist() == [1, 1, 1]  # 95th percentile, mean, share within one pixel
    assert surfaces(chosen, target, 2, 0.5)[0, 2].item() == 0
    assert found[1, :2].isnan().tolist() == [True, True]


def test_a_surface_that_is_missed_or_made_up_is_no_agreement() -> None:
    empty, there = torch.zeros(3, 8, 8, dtype=torch.int64), torch.zeros(3, 8, 8, dtype=torch.int64)
    there[:2, 2, 2] = 1  # the third is empty in both
    for found in (surfaces(empty, there, 2, 1.0), surfaces(there, empty, 2, 1.0)):
        assert found[:, 2].nan_to_num(-1.0).tolist() == [0, 0, -1]
        assert bool(found[:, :2].isnan().all())
        assert found.dtype == torch.float32


def test_missed_lesions_count_in_the_agreement_of_surfaces() -> None:
    judge, target = kind("a", surface=1.0), torch.ones(10, 1, 1, dtype=torch.uint8).expand(-1, 1, 2)
    output = torch.zeros(10, 2, 1, 2)
    output[:, 0], output[0, 1] = 1, 2  # nine of ten missed
    figures = {name: rest for name, *rest in judge.figures(judge.answers(output, target), torch.zeros(10), HEAD)}
    assert figures["surface_dice"] == [pytest.approx(0.1), 10]
    assert figures["hd95"] == [0, 1]


def test_a_mask_that_hides_classes_is_no_truth_about_all_of_them() -> None:
    assert kind("a", "b", labelled=("a",)).truth(mask(0, 1)) is None
    whole = kind("a", "b").truth(mask(0, 1))
    assert whole is not None
    assert whole[0, :, 0].T.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_a_mask_without_any_judgement_teaches_nothing() -> None:
    target = torch.cat((mask(9, 9), mask(0, 9)))
    assert kind("a", ignore=9).informs(target).tolist() == [False, True]
    assert kind("a").informs(torch.zeros_like(target)).tolist() == [True, True]
    assert (kind("a", ignore=9).may_be_void, kind("a").may_be_void) == (True, False)


def test_a_mask_in_the_studys_form_keeps_the_value_for_unjudged_places() -> None:
    values = np.array([[0, 9], [1, 9]], np.uint8)
    found = shaped_mask(values, Picture(values[None].astype(np.float32)), make_study().image, where="")
    assert sorted(np.unique(found).tolist()) == [0, 1, 9]
