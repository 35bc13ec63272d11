"""Each kind of encoder in 2D and 3D: what it returns, that it learns, and that nothing but parameters makes it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from torch import nn

from polyward_client.trainer.encoders import build_encoder, pyramid_of
from polyward_client.trainer.encoders.blocks import halved
from polyward_client.trainer.encoders.vit import ViTPyramid
from polyward_shared.problems import Problem
from tests.client.trainer.encoders.studies import FORMS, SMALL, study_of

SIZES = [(32, 64), (32, 32, 32)]
each_kind = pytest.mark.parametrize("kind", SMALL)
each_size = pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])


@each_kind
@each_size
def test_every_kind_returns_its_levels_and_learns(kind: str, size: tuple[int, ...]) -> None:
    study = study_of(kind, size, channels=2)
    encoder = build_encoder(study)
    levels = encoder(torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(1)))
    channels, strides = FORMS[kind]
    assert [tuple(level.shape) for level in levels] == [
        (1, width, *(side // stride for side in size)) for width, stride in zip(channels, strides, strict=True)
    ]
    torch.autograd.backward([level.square().mean() for level in levels])
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    assert sum(bool(gradient.any()) for gradient in gradients.values()) > len(gradients) * 0.9
    assert gradients.keys() == pyramid_of(study).used  # what the probe foretold


@each_kind
@each_size
def test_no_kind_has_a_state_besides_its_parameters(kind: str, size: tuple[int, ...]) -> None:
    encoder = build_encoder(study_of(kind, size))
    assert set(encoder.state_dict()) == {name for name, _ in encoder.named_parameters()}


@each_kind
def test_no_kind_writes_over_features_that_others_read(kind: str) -> None:
    levels = build_encoder(study_of(kind))(torch.rand(1, 1, 32, 32))
    before = [level.detach().clone() for level in levels]
    torch.autograd.backward([level.square().sum() for level in levels])  # torch refuses levels changed in place
    assert all(torch.equal(level, copy) for level, copy in zip(levels, before, strict=True))
    encoder = build_encoder(study_of(kind))
    assert not [name for name, part in encoder.named_modules() if getattr(part, "inplace", False)]


@each_kind
def test_the_first_state_depends_on_the_study_and_not_on_torchs_generator(kind: str) -> None:
    torch.manual_seed(1)
    one = build_encoder(study_of(kind)).state_dict()
    torch.manual_seed(2)
    two = build_encoder(study_of(kind)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("size", "count"), [((32, 32), 367_848), ((16, 16, 16), 1_100_664)], ids=["2d", "3d"])
def test_the_reference_encoder_has_its_known_number_of_parameters(size: tuple[int, ...], count: int) -> None:
    encoder = build_encoder(study_of("segres", size, filters=8, blocks=[1, 2, 2, 4]))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


def test_the_residual_encoder_starts_with_the_bytes_that_it_always_had() -> None:
    digest = hashlib.sha256()
    for name, value in build_encoder(study_of("segres", filters=8, blocks=[1, 2, 2, 4])).state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    assert digest.hexdigest() == "535c0c0875d057b8d04813edeec24695327add72f92519536a1f924319f3733f"


@pytest.mark.parametrize(("patch", "strides"), [(4, (1, 2, 4, 8)), (8, (2, 4, 8, 16)), (16, (4, 8, 16, 32))])
def test_a_transformers_levels_lie_around_its_patches(patch: int, strides: tuple[int, ...]) -> None:
    assert pyramid_of(study_of("vit", patch=patch)).strides == strides


def test_a_transformers_patch_keeps_its_place() -> None:
    """Without blocks and embeddings the patch level is a convolution of the image, so the place shows."""
    encoder = build_encoder(study_of("vit"))
    assert isinstance(encoder, ViTPyramid)
    encoder.transformer.blocks = nn.ModuleList()
    encoder.transformer.patch_embedding.position_embeddings.data.zero_()
    image = torch.zeros(1, 1, 32, 32)
    image[..., 8:16, 24:32] = 1  # row 1, column 3 of the patches
    energy = encoder(image)[2].square().sum((0, 1))
    assert energy.nonzero().tolist() == [[1, 3]]


def test_the_deeper_residual_networks_have_wider_levels() -> None:
    assert pyramid_of(study_of("resnet", depth=50)).channels == (64, 256, 512, 1024, 2048)


@pytest.mark.parametrize("shape", [(2, 3, 6, 4), (1, 2, 4, 6, 2)], ids=["2d", "3d"])
def test_halving_is_max_pooling(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    pool = nn.MaxPool2d(2) if len(shape) == 4 else nn.MaxPool3d(2)
    assert torch.equal(halved(x), pool(x))


@pytest.mark.parametrize(
    ("kind", "encoder", "said"),
    [
        ("vit", {"heads": 3}, "encoder.width"),
        ("vit", {"width": 18, "heads": 2}, "encoder.width"),
        ("swin", {"width": 16}, "encoder.heads"),
        ("basicunet", {"widths": [4, 6]}, "groups"),
        ("resnet", {"groups": 5}, "groups"),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_named(kind: str, encoder: dict[str, Any], said: str) -> None:
    with pytest.raises(Problem, match=said):
        build_encoder(study_of(kind, **encoder))


def test_levels_that_branches_cannot_group_are_named() -> None:
    with pytest.raises(Problem, match=r"encoder\.groups: found 5; expected a divisor of 12 channels"):
        pyramid_of(study_of("swin", groups=5))
