"""What the probe finds out, and that it leaves no trace."""

from __future__ import annotations

import pytest
import torch

from polyward_client.trainer.encoders import build_encoder, pyramid_of
from tests.client.trainer.encoders.studies import FORMS, SMALL, study_of


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("size", [(32, 32), (64, 32, 32)], ids=["2d", "3d"])
def test_the_probe_tells_channels_strides_and_dimensions(kind: str, size: tuple[int, ...]) -> None:
    pyramid = pyramid_of(study_of(kind, size))
    assert (pyramid.channels, pyramid.strides, pyramid.dims) == (*FORMS[kind], len(size))


@pytest.mark.parametrize("kind", sorted(set(SMALL) - {"vit"}))
def test_every_parameter_of_most_kinds_is_used(kind: str) -> None:
    study = study_of(kind)
    assert pyramid_of(study).used == {name for name, _ in build_encoder(study).named_parameters()}


def test_norms_of_attention_that_a_transformer_does_not_have_are_not_used() -> None:
    study = study_of("vit")
    idle = {name for name, _ in build_encoder(study).named_parameters()} - pyramid_of(study).used
    assert idle == {f"transformer.blocks.{i}.norm_cross_attn.{part}" for i in (0, 1) for part in ("weight", "bias")}


def test_a_probe_is_made_once_for_a_study() -> None:
    assert pyramid_of(study_of("swin")) is pyramid_of(study_of("swin"))


@torch.no_grad()
def test_a_probe_sees_gradients_where_others_are_switched_off() -> None:
    assert len(pyramid_of(study_of("segres", (16, 64))).used) > 10


def test_a_probe_does_not_move_torchs_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pyramid_of(study_of("segres", (16, 48)))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", ["segres", "vit"])  # 17 GB for the first feature alone
def test_a_large_volume_is_probed_without_its_memory(kind: str) -> None:
    pyramid = pyramid_of(study_of(kind, (1024, 1024, 1024)))
    assert pyramid.strides == FORMS[kind][1]
