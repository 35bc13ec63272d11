"""What is what in an encoder's state, and statistics that cross as moments."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from polyward_client.trainer.encoders import build_encoder
from polyward_client.trainer.encoders.entries import Entry, entries_of, kept_statistics, load_moments, moments_of
from tests.client.trainer.encoders.studies import SMALL, study_of

NORMED = ("segres", "basicunet", "resnet")


@pytest.mark.parametrize("kind", SMALL)
def test_every_entry_has_its_class_in_the_states_order(kind: str) -> None:
    encoder = build_encoder(study_of(kind))
    found = entries_of(encoder)
    assert list(found) == list(encoder.state_dict())
    norms = [path for path, module in encoder.named_modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]
    affine = {f"{path}.{name}" for path in norms for name in ("weight", "bias")}
    assert {name for name, entry in found.items() if entry.kind == "affine"} == affine & found.keys()
    assert all(entry == Entry("weight") for name, entry in found.items() if name not in affine)


@pytest.mark.parametrize("kind", NORMED)
@pytest.mark.parametrize("size", [(32, 32), (32, 32, 32)], ids=["2d", "3d"])
def test_batch_norm_brings_statistics_and_counters(kind: str, size: tuple[int, ...]) -> None:
    grouped = entries_of(build_encoder(study_of(kind, size)))
    found = entries_of(build_encoder(study_of(kind, size, norm="batch")))
    norms = sum(entry.kind == "affine" for entry in grouped.values()) // 2
    counts = Counter(entry.kind for entry in found.values())
    assert counts["affine"] == counts["statistic"] == 2 * norms
    assert counts["counter"] == norms
    assert {name for name, entry in found.items() if entry.kind == "weight"} == {
        name for name, entry in grouped.items() if entry.kind == "weight"
    }
    assert all(entry.batch == (entry.kind != "weight") for entry in found.values())


def test_a_shortcuts_norm_is_known_although_its_name_does_not_say_so() -> None:
    found = entries_of(build_encoder(study_of("resnet", norm="batch")))
    assert found["stages.1.0.downsample.0.weight"] == Entry("weight")
    assert found["stages.1.0.downsample.1.weight"] == Entry("affine", True)
    assert found["stages.1.0.downsample.1.running_var"] == Entry("statistic", True)
    assert found["stages.1.0.downsample.1.num_batches_tracked"] == Entry("counter", True)


def norm_of(mean: list[float], variance: list[float]) -> nn.Module:
    module = nn.Sequential(nn.BatchNorm2d(len(mean)))
    module.get_buffer("0.running_mean").copy_(torch.tensor(mean))
    module.get_buffer("0.running_var").copy_(torch.tensor(variance))
    return module


def test_moments_by_hand() -> None:
    found = moments_of(norm_of([3.0, -1.0], [2.0, 0.5]))
    assert {name: value.tolist() for name, value in found.items()} == {"0.mean": [3.0, -1.0], "0.square": [11.0, 1.5]}


sites = st.lists(
    st.tuples(st.floats(-5, 5, width=32), st.floats(0.0625, 9, width=32), st.floats(0.1, 1)), min_size=1, max_size=5
)


@given(sites)
def test_the_mean_of_moments_gives_the_mean_and_variance_of_all(found: list[tuple[float, float, float]]) -> None:
    means, variances, weights = (np.array(each) for each in zip(*found, strict=True))
    weights = weights / weights.sum()
    moments = [moments_of(norm_of([float(m)], [float(v)])) for m, v, _ in found]
    pooled = {
        name: torch.stack([w * each[name] for w, each in zip(weights, moments, strict=True)]).sum(0)
        for name in moments[0]
    }
    norm = norm_of([0.0], [1.0])
    load_moments(norm, pooled)
    mean = (weights * means).sum()
    variance = (weights * variances).sum() + (weights * (means - mean) ** 2).sum()
    assert norm.get_buffer("0.running_mean").item() == pytest.approx(mean, abs=1e-5)
    assert norm.get_buffer("0.running_var").item() == pytest.approx(variance, rel=1e-4, abs=1e-4)


def test_a_variance_is_never_below_zero() -> None:
    norm = norm_of([0.0], [1.0])
    load_moments(norm, {"0.mean": torch.tensor([2.0]), "0.square": torch.tensor([3.9])})
    assert norm.get_buffer("0.running_var").item() == 0


def test_another_look_is_not_counted() -> None:
    norm = norm_of([3.0], [2.0]).train()
    with kept_statistics([norm[0]]):  # type: ignore[index]
        norm(torch.rand(2, 1, 4, 4))
        assert norm.get_buffer("0.running_mean").item() != 3
    assert [buffer.item() for buffer in norm.buffers()] == [3.0, 2.0, 0]
