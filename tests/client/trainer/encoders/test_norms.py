"""Batch norm in the convolutional encoders."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polyward_client.trainer.encoders import build_encoder, pyramid_of
from polyward_client.trainer.encoders.norms import BATCH
from tests.client.trainer.encoders.studies import FORMS, study_of

NORMED = ("segres", "basicunet", "resnet")
each_kind = pytest.mark.parametrize("kind", NORMED)


@each_kind
@pytest.mark.parametrize("size", [(32, 32), (32, 32, 32)], ids=["2d", "3d"])
def test_a_study_with_batch_norm_has_no_other(kind: str, size: tuple[int, ...]) -> None:
    study = study_of(kind, size, norm="batch")
    encoder = build_encoder(study)
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    assert norms
    assert {type(norm) for norm in norms} == {BATCH[len(size)]}
    assert not [module for module in encoder.modules() if isinstance(module, nn.GroupNorm)]
    assert pyramid_of(study).channels == FORMS[kind][0]
    assert pyramid_of(study).used == {name for name, _ in encoder.named_parameters()}


@each_kind
def test_weights_start_as_with_group_norm_and_statistics_plain(kind: str) -> None:
    torch.manual_seed(1)
    one, two = (build_encoder(study_of(kind, norm=norm)).state_dict() for norm in ("group", "batch"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name in two.keys() - one.keys():
        assert set(two[name].flatten().tolist()) == {1.0 if name.endswith("running_var") else 0.0}


@each_kind
def test_a_batch_of_one_trains_where_torch_would_refuse(kind: str) -> None:
    size = {"segres": (4, 4), "basicunet": (4, 4), "resnet": (32, 32)}[kind]  # the deepest level is one place
    encoder = build_encoder(study_of(kind, size, norm="batch")).train()
    levels = encoder(torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0)))
    assert levels[-1].shape[2:] == (1, 1)
    torch.autograd.backward([level.square().sum() for level in levels])
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_one_value_is_normalised_by_the_running_statistics_which_stay(dims: int) -> None:
    norm = BATCH[dims](1).train()
    norm.get_buffer("running_mean").fill_(2.0)
    norm.get_buffer("running_var").fill_(4.0 - 1e-5)
    assert norm(torch.full((1, 1, *[1] * dims), 6.0)).item() == pytest.approx(2.0)
    assert norm.get_buffer("running_mean").item() == 2
    assert norm.get_buffer("num_batches_tracked").item() == 0
    norm(torch.full((2, 1, *[1] * dims), 6.0))
    assert norm.get_buffer("running_mean").item() == pytest.approx(2.4)  # a tenth of the way
