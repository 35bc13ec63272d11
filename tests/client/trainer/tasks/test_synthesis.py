"""Synthesis: errors by hand, and SSIM against scikit-image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn

from polyward_client.trainer.cells import Cell, CellError
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.synthesis import SynthesisKind, psnr, ssim
from polyward_shared.study import Image
from polyward_shared.tasks import METRICS, Synthesis

HEAD = nn.Identity()


def kind(**changes: Any) -> SynthesisKind:
    return SynthesisKind("diffusion", Synthesis.model_validate({"kind": "synthesis", **changes}))


@pytest.mark.parametrize("size", [(24, 20), (14, 13, 12)])
def test_ssim_is_scikit_images(size: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    x = generator.random((2, 3, *size)).astype(np.float32)
    y = np.clip(x + 0.2 * generator.standard_normal(x.shape), 0, 1).astype(np.float32)
    for a, b, found in zip(x, y, ssim(torch.from_numpy(x), torch.from_numpy(y)), strict=True):
        wanted = structural_similarity(  # type: ignore[no-untyped-call]
            a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert found.item() == pytest.approx(wanted, abs=1e-4)


def test_ssim_of_constants_by_hand() -> None:
    x, y = torch.full((1, 1, 12, 12), 0.5), torch.full((1, 1, 12, 12), 0.25)
    assert ssim(x, y).item() == pytest.approx((2 * 0.125 + 1e-4) / (0.3125 + 1e-4), rel=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (16, 16, 2)])
def test_the_window_shrinks_to_small_images(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 1, *size)
    assert ssim(x, x).tolist() == pytest.approx([1, 1])
    assert (ssim(x, x / 4) < 0.9).all()


def test_psnr_by_hand_and_at_most_100() -> None:
    target = torch.zeros(3, 1, 2, 2)
    assert psnr(target + torch.tensor([0.1, 1.0, 0.0]).reshape(3, 1, 1, 1), target).tolist() == pytest.approx(
        [20, 0, 100], abs=1e-4
    )


def test_the_loss_is_the_mean_absolute_error_and_weighted_dissimilarity_of_each_case() -> None:
    torch.manual_seed(0)
    output, target = torch.rand(3, 2, 12, 12), torch.rand(3, 2, 12, 12)
    output[1] = target[1]
    mae, unlike = (output - target).abs().mean((1, 2, 3)), 1 - ssim(output, target)
    assert torch.allclose(kind(ssim_weight=0).losses(output, target, HEAD), mae)
    found = kind(ssim_weight=2.0).losses(output, target, HEAD)
    assert torch.allclose(found, mae + 2 * unlike)
    assert found[1].item() == pytest.approx(0, abs=1e-5)
    assert found[0] > 1


def test_gradients_are_finite_where_nothing_varies() -> None:
    for value in (0.0, 1.0):
        output = torch.full((1, 1, 12, 12), value, requires_grad=True)
        (gradient,) = torch.autograd.grad(kind().losses(output, torch.zeros(1, 1, 12, 12), HEAD).sum(), output)
        assert gradient.isfinite().all()


def test_a_file_is_shaped_with_the_tasks_channels_and_intensity(tmp_path: Path) -> None:
    np.save(tmp_path / "target.npy", np.asarray([np.full((4, 8), 50.0), np.full((4, 8), 100.0)]))
    picture = Picture(np.zeros((1, 4, 8), np.float32), (1.0, 1.0))  # the target file does not say its spacing
    asked = kind(channels=2, intensity=[0, 200])
    found = asked.target(tmp_path / "target.npy", picture, Image(size=(8, 8), spacing=(1.0, 1.0)))
    assert found.dtype == np.float32
    assert found[:, 2:6].reshape(2, -1).tolist() == [[0.25] * 32, [0.5] * 32]
    assert not found[:, :2].any()
    assert asked.blank(Image(size=(8, 8))).shape == found.shape


def test_the_image_itself_needs_no_label_and_no_file() -> None:
    asked, picture = kind(target="input", intensity=[0, 10]), Picture(np.full((1, 4, 4), 5, np.float32))
    assert not asked.needs_label
    assert kind().needs_label
    found = asked.target(Path("image.png"), picture, Image(size=(4, 4), intensity="zscore"))
    assert found.tolist() == np.full((1, 4, 4), 0.5).tolist()


def test_a_label_is_a_file_of_the_images_size(tmp_path: Path) -> None:
    np.save(tmp_path / "target.npy", np.zeros((4, 8)))
    assert kind().label([Cell("diffusion", "target.npy", tmp_path, (4, 8))]) == tmp_path / "target.npy"
    assert kind().label([None]) is None
    with pytest.raises(CellError, match="the size of its image, 8 x 8"):
        kind().label([Cell("diffusion", "target.npy", tmp_path, (8, 8))])


def test_a_cascade_passes_on_the_image() -> None:
    asked, values = kind(channels=3), torch.rand(2, 3, 4, 4)
    assert asked.evidence(values) is values
    assert asked.truth(values) is values
    assert (asked.evidence_width, asked.unsure, asked.moves) == (3, 0, "image")


def test_figures_are_means_with_their_count() -> None:
    target = torch.zeros(2, 1, 12, 12)
    output = target + torch.tensor([0.1, 0.0]).reshape(2, 1, 1, 1)
    figures = list(kind().figures(kind().answers(output, target), target, HEAD))
    assert [name for name, _, _ in figures] == list(METRICS["synthesis"][:-1]) == ["psnr", "ssim", "mae"]
    wanted = [60, (1 + 1e-4 / (0.01 + 1e-4)) / 2, 0.05]
    assert [value for _, value, _ in figures] == pytest.approx(wanted, abs=1e-4)
    assert [count for _, _, count in figures] == [2, 2, 2]


def test_a_small_net_learns_another_image() -> None:
    torch.manual_seed(0)
    x, y = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    pictures = torch.stack([(0.2 * (k + 1) * x + 0.3 * y + k).sin() / 2 + 0.5 for k in range(4)])[:, None]
    targets = (1 - pictures).square()
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    optimiser, asked = torch.optim.Adam(net.parameters(), 0.02), kind()
    for _ in range(120):
        optimiser.zero_grad()
        asked.losses(net(pictures), targets, HEAD).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    answers = asked.answers(net(pictures).detach(), targets)
    figures = {name: value for name, value, _ in asked.figures(answers, targets, HEAD)}
    assert figures["psnr"] > 22
    assert figures["ssim"] > 0.95
