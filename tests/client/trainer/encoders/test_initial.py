"""First values: their spread, their order, and what keeps the value that its class gave it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polyward_client.trainer.encoders import initialise


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(6, 500), 6),
        (nn.Conv2d(3, 200, 2), 12),
        (nn.Conv3d(4, 200, 3, groups=2), 54),
        (nn.ConvTranspose2d(6, 200, 2, stride=2), 6),  # every output meets one place of the kernel
        (nn.ConvTranspose3d(8, 200, 4, stride=2, groups=2), 32),  # and here 2 x 2 x 2, in one of two groups
    ],
)
def test_weights_are_uniform_within_the_bound_of_their_inputs(layer: nn.Module, inputs: int) -> None:
    initialise(layer, 1)
    bound = (6 / inputs) ** 0.5
    weight = layer.get_parameter("weight")
    assert bound * 0.98 < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not layer.get_parameter("bias").any()


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.BatchNorm2d(4)])
def test_norms_start_plain(norm: nn.Module) -> None:
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    initialise(norm, 1)
    assert norm.get_parameter("weight").tolist() == [1] * 4
    assert norm.get_parameter("bias").tolist() == [0] * 4


def test_a_norm_takes_no_draw() -> None:
    plain, normed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    normed.append(nn.Linear(2, 2))
    initialise(plain, 1)
    initialise(normed, 1)
    assert torch.equal(plain[1].get_parameter("weight"), normed[2].get_parameter("weight"))


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.random = nn.Parameter(torch.randn(100, 100))
        self.chosen = nn.Parameter(torch.full((3,), 0.1))


def test_raw_parameters_keep_their_values_unless_asked_for() -> None:
    table = Table()
    before = table.random.detach().clone()
    initialise(table, 1)
    assert torch.equal(table.random, before)


def test_random_tables_are_drawn_near_zero_and_constants_stay() -> None:
    table = Table()
    initialise(table, 1, raw=True)
    assert table.random.std().item() == pytest.approx(0.02, rel=0.03)
    assert abs(table.random.mean().item()) < 1e-3
    assert 0.04 < table.random.abs().max() < 0.07
    assert table.chosen.tolist() == pytest.approx([0.1] * 3)


def test_tables_are_these_numbers_on_every_machine() -> None:
    table = Table()
    initialise(table, 7, raw=True)
    assert [value.hex() for value in table.random[0, :3].tolist()] == [
        "0x1.d02c1c0000000p-7",
        "-0x1.1405060000000p-13",
        "-0x1.7242b00000000p-7",
    ]
