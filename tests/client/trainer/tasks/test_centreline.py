"""Centrelines: small tubes whose skeletons and scores can be counted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses.cldice import soft_skel
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor, nn

from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.centreline import (
    EROSIONS,
    CentrelineKind,
    line_scores,
    nearness_losses,
    skeleton,
    soft_cldice,
    soft_skeleton,
    tube_losses,
)
from polyward_shared.study import Image
from polyward_shared.tasks import METRICS, Centreline

HEAD = nn.Identity()


def kind(reach: float = 4.0, tolerance: float = 1.0) -> CentrelineKind:
    return CentrelineKind("vessel", Centreline(kind="centreline", reach=reach, tolerance=tolerance))


def row(first: int, end: int, *, at: int = 4) -> NDArray[np.bool_]:
    """A line one pixel wide in an image of 9 x 12."""
    mask = np.zeros((9, 12), np.bool_)
    mask[at, first:end] = True
    return mask


def answer(mask: NDArray[np.bool_]) -> Tensor:
    """A confident answer [1, 2, *spatial] of this mask."""
    return torch.stack((torch.from_numpy(mask) * 40.0 - 20, torch.zeros(mask.shape)))[None]


def target(*masks: NDArray[np.bool_]) -> Tensor:
    return torch.stack([torch.from_numpy(np.stack((mask, mask))).float() for mask in masks])


def shaped_target(mask: NDArray[np.bool_], folder: Path, *, reach: float = 4.0) -> NDArray[np.float32]:
    Pillow.fromarray(mask.astype(np.uint8) * 255).save(folder / "mask.png")
    picture = Picture(np.zeros((1, *mask.shape), np.float32))
    return kind(reach).target(folder / "mask.png", picture, Image(size=mask.shape))


def test_the_target_is_the_mask_and_the_nearness_of_its_middle(tmp_path: Path) -> None:
    mask = np.zeros((11, 20), np.bool_)
    mask[4:7] = True
    tube, near = shaped_target(mask, tmp_path)
    assert (tube == mask).all()
    assert near[:, 10].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0]


def test_an_empty_mask_is_as_blank_as_no_mask(tmp_path: Path) -> None:
    empty = shaped_target(np.zeros((8, 8), np.bool_), tmp_path)
    blank = kind().blank(Image(size=(8, 8)))
    assert empty.dtype == blank.dtype == np.float32
    assert empty.shape == blank.shape == (2, 8, 8)
    assert not empty.any()


def test_the_soft_skeleton_is_monais() -> None:
    torch.manual_seed(0)
    for shape in ((2, 16, 15), (2, 9, 10, 11)):
        chances = torch.rand(shape)
        assert torch.allclose(soft_skeleton(chances), soft_skel(chances[:, None], EROSIONS)[:, 0])


def test_the_soft_skeleton_of_a_tube_is_its_middle() -> None:
    tube = torch.zeros(1, 9, 20)
    tube[:, 3:6] = 1
    assert soft_skeleton(tube)[0, :, 10].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_tube_of_any_width_has_a_skeleton_in_3d(width: int) -> None:
    mask = np.zeros((10, 10, 20), np.bool_)
    mask[2 : 2 + width, 2 : 2 + width, 2:18] = True
    mask[8:, 8:, :1] = True  # a crumb beside it has one as well
    line = skeleton(mask)
    assert line[:8, :8].any((0, 1)).sum() > 16 - width - 2
    assert line[:8, :8].sum() <= 16
    assert line[8:, 8:, :1].any()
    assert not line[~mask].any()


def test_a_mask_counts_from_one_half_so_a_line_between_pixels_stays() -> None:
    between = torch.full((1, 2, 2, 3), 0.5)
    assert kind().truth(between)[:, 1].all()
    assert not kind().truth(between - 0.01)[:, 1].any()


def test_evidence_and_truth_are_background_and_tube() -> None:
    mask = row(1, 11)
    asked = kind()
    assert torch.allclose(asked.evidence(answer(mask)), asked.truth(target(mask)), atol=1e-6)
    assert (asked.evidence(torch.zeros(1, 2, 4, 4)) == asked.unsure).all()
    assert asked.unsure == 0.5
    assert asked.evidence_width == 2


def test_losses_by_hand() -> None:
    tube = torch.tensor([[[1.0, 0.0]]])
    # one half everywhere: the soft skeleton of a constant is empty, and that of the tube is the tube
    cldice = 2 * 1 * (1.5 / 2) / (1 + 1.5 / 2)
    wanted = math.log(2) + 0.5 * (1 - 2 / 3) + 0.5 * (1 - cldice)
    assert tube_losses(torch.zeros(1, 1, 2), tube).item() == pytest.approx(wanted)
    # away by 1 on the line (weight 1) and by 1/2 beyond reach (weight 0.1), each less half the kink of 0.1
    found = nearness_losses(torch.tensor([[[0.0, 0.5]]]), tube)
    assert found.item() == pytest.approx((0.95 + 0.1 * 0.45) / 1.1)


def test_each_case_has_its_own_loss() -> None:
    torch.manual_seed(0)
    asked, truths = kind(), target(row(0, 12), row(2, 5), np.zeros((9, 12), np.bool_))
    output = torch.randn(3, 2, 9, 12)
    alone = torch.cat([asked.losses(output[i : i + 1], truths[i : i + 1], HEAD) for i in range(3)])
    assert torch.allclose(asked.losses(output, truths, HEAD), alone)
    assert len(set(alone.tolist())) == 3


def test_a_right_answer_costs_nothing_even_to_an_empty_mask() -> None:
    for mask in (row(1, 11), np.zeros((9, 12), np.bool_)):
        output = answer(mask)
        output[:, 1] = target(mask)[:, 1]
        assert kind().losses(output, target(mask), HEAD).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("size", [(9, 12), (5, 6, 7), (1, 8)])
def test_gradients_on_an_empty_mask_are_finite(size: tuple[int, ...]) -> None:
    for start in (0.0, 50.0, -50.0):
        output = torch.full((1, 2, *size), start, requires_grad=True)
        loss = kind().losses(output, torch.zeros(1, 2, *size), HEAD).sum()
        (gradient,) = torch.autograd.grad(loss, output)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_soft_cldice_minds_a_gap_more_than_a_thinner_rim() -> None:
    tube = torch.zeros(1, 9, 21)
    tube[:, 3:6] = 1
    gap, rim = tube.clone(), tube.clone()
    gap[:, :, 9:12] = 0
    rim[:, 3, 6:15] = 0  # the same nine pixels
    assert soft_cldice(gap, tube) < soft_cldice(rim, tube)
    assert soft_cldice(tube, tube) == 1


def test_scores_of_a_line_that_ends_early() -> None:
    # all 6 called are true, 6 of 10 are called; the next place is within 1 pixel of the end, so 6 and 7 of 16 agree
    found = line_scores(row(1, 7), row(1, 11), 1.0)
    assert found == pytest.approx((2 * 0.6 / 1.6, 12 / 16, 13 / 16))


def test_a_line_beside_the_true_one_agrees_within_the_tolerance() -> None:
    beside = answer(row(1, 11, at=5))
    assert kind(tolerance=1.0).answers(beside, target(row(1, 11))).tolist() == [[0, 0, 1]]
    assert kind(tolerance=0.5).answers(beside, target(row(1, 11))).tolist() == [[0, 0, 0]]


def test_figures_are_means_over_cases_with_a_tube() -> None:
    empty, full = np.zeros((9, 12), np.bool_), row(1, 11)
    outputs = torch.cat((answer(full), answer(empty), answer(full)))
    answers = kind().answers(outputs, target(full, full, empty))
    assert answers.isnan().all(1).tolist() == [False, False, True]
    figures = list(kind().figures(answers, torch.zeros(3), HEAD))
    assert figures == [("cldice", 0.5, 2), ("dice", 0.5, 2), ("line_agreement", 0.5, 2)]
    assert {name for name, _, _ in figures} | {"loss"} == set(METRICS["centreline"])
    assert not list(kind().figures(answers[2:], torch.zeros(1), HEAD))


def test_a_small_net_learns_the_tube_and_its_nearness(tmp_path: Path) -> None:
    torch.manual_seed(0)
    masks = np.zeros((4, 16, 16), np.bool_)
    masks[0, 3:6], masks[1, :, 9:12], masks[2, 10:13, 4:] = True, True, True
    masks[3] = np.abs(np.subtract.outer(np.arange(16), np.arange(16))) < 2
    truths = torch.from_numpy(np.stack([shaped_target(mask, tmp_path) for mask in masks]))
    pictures = truths[:, :1] + 0.2 * torch.randn(4, 1, 16, 16)
    net = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 2, 5, padding=2))
    optimiser, asked = torch.optim.Adam(net.parameters(), 0.03), kind()
    for _ in range(40):
        optimiser.zero_grad()
        asked.losses(net(pictures), truths, HEAD).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    output = net(pictures).detach()
    figures = {name: value for name, value, _ in asked.figures(asked.answers(output, truths), truths, HEAD)}
    assert figures["cldice"] > 0.95
    assert figures["line_agreement"] > 0.95
    assert (output[:, 1] - truths[:, 1]).abs()[truths[:, 0] > 0].mean() < 0.15
