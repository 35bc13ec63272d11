"""Every decoder goes up the pyramid level by level, in 2D and 3D, and learns."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from polyward_client.trainer.decoders import DECODERS, fitting_groups
from polyward_client.trainer.encoders import Pyramid
from polyward_shared.study import Branches

CHANNELS, STRIDES = (4, 8, 12), (1, 2, 8)  # one step of 2, one of 4


def test_the_study_names_every_decoder() -> None:
    assert set(get_args(Branches.model_fields["decoder"].annotation)) == set(DECODERS)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("gated", [False, True])
def test_each_stage_ends_at_the_next_level_and_all_of_it_learns(kind: str, dims: int, gated: bool) -> None:
    torch.manual_seed(0)
    form = Pyramid(CHANNELS, STRIDES, dims, frozenset())
    decoder = DECODERS[kind](form, [fitting_groups(4, width) for width in CHANNELS], gated=gated)
    levels = [torch.randn(2, width, *[16 // step] * dims) for width, step in zip(CHANNELS, STRIDES, strict=True)]
    assert decoder.stages == 2
    h = levels[-1]
    for number in range(decoder.stages):
        h = decoder.stage(number, h, levels)
        assert h.shape == levels[-2 - number].shape
    h.square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_gates_weigh_the_encoders_features() -> None:
    form = Pyramid(CHANNELS, STRIDES, 2, frozenset())
    assert not len(DECODERS["unet"](form, [4, 4, 4], gated=False).gates)
    assert len(DECODERS["unet"](form, [4, 4, 4], gated=True).gates) == 2


@pytest.mark.parametrize(("wanted", "width", "found"), [(4, 8, 4), (4, 6, 3), (4, 7, 1), (8, 4, 4)])
def test_groups_divide_the_width(wanted: int, width: int, found: int) -> None:
    assert fitting_groups(wanted, width) == found
