"""CBAM: gates between 0 and 1, the shape kept, by hand where weights are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polyward_client.trainer.attention import CBAM
from polyward_client.trainer.model import MultiTaskModel
from tests.support.images import make_study

FORMS: dict[str, tuple[type[nn.Conv2d] | type[nn.Conv3d], tuple[int, ...]]] = {
    "2d": (nn.Conv2d, (8, 8)),
    "3d": (nn.Conv3d, (8, 8, 8)),
}


@pytest.mark.parametrize("form", FORMS)
def test_values_shrink_and_keep_sign_and_shape(form: str) -> None:
    convolution, size = FORMS[form]
    x = torch.randn(2, 6, *size)
    out = CBAM(6, convolution)(x)
    assert out.shape == x.shape
    assert bool((out.abs() < x.abs()).all())
    assert bool((out.sign() == x.sign()).all())


def test_gates_of_zeros_are_half_open_twice() -> None:
    unit = CBAM(4, nn.Conv2d)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.zero_()
    assert unit(torch.full((1, 4, 3, 3), 8.0)).unique().tolist() == [2.0]


def test_the_channel_gate_sees_mean_and_maximum() -> None:
    unit = CBAM(1, nn.Conv2d)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.zero_()
        unit.squeeze.weight.fill_(1.0)
        unit.excite.weight.fill_(1.0)
        unit.places.bias.fill_(50.0)  # type: ignore[union-attr]  # all places open
    x = torch.tensor([[[[0.0, 0.0], [0.0, 4.0]]]])  # mean 1 and maximum 4: sigmoid(5)
    assert unit(x)[0, 0, 1, 1].item() == pytest.approx(4 * torch.tensor(5.0).sigmoid().item())


def test_the_spatial_gate_tells_places_apart() -> None:
    unit = CBAM(2, nn.Conv2d)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.zero_()
        unit.places.weight[0, :, 3, 3] = torch.tensor([1.0, 10.0])  # the place itself: mean, and maximum of channels
    x = torch.zeros(1, 2, 3, 3)
    x[0, 0, 1, 1] = 2.0  # halved by the open channel gate: mean 0.5, maximum 1
    found = unit(x)
    assert found[0, 0, 1, 1].item() == pytest.approx(torch.tensor(10.5).sigmoid().item())
    assert found.count_nonzero() == 1


@pytest.mark.parametrize("size", [[16, 16], [8, 8, 8]], ids=["2d", "3d"])
@pytest.mark.parametrize("task", ["bright", "mask"])
def test_the_gradient_reaches_every_weight_of_a_branch_with_attention(task: str, size: list[int]) -> None:
    study = make_study(tasks=[task], image={"size": size}, branches={"attention": "cbam"})
    model = MultiTaskModel(study, (task,))
    assert model.branches[task].cbam is not None
    model(torch.rand(2, 1, *size))[task].square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    assert all(p.grad is not None and p.grad.any() for p in model.branches[task].cbam.places.parameters())  # type: ignore[union-attr]
