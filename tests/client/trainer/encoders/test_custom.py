"""Encoders of one's own: allowed by name, called by keywords, and refused in words when they cannot be shared."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from polyward_client.trainer.encoders import Pyramid, build_encoder, pyramid_of
from polyward_client.trainer.encoders.entries import entries_of
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.client.trainer.encoders.strangers import Aliased
from tests.client.trainer.encoders.studies import study_of

PACKAGE = "tests.client.trainer.encoders.strangers"


def study_with(name: str, size: tuple[int, ...] = (8, 8), **options: object) -> tuple[Study, tuple[str]]:
    path = f"{PACKAGE}:{name}"
    return study_of("custom", size, path=path, options=options, channels=2), (path,)


@pytest.mark.parametrize("size", [(8, 8), (8, 4, 4)], ids=["2d", "3d"])
def test_a_class_of_ones_own_is_built_with_the_studys_options(size: tuple[int, ...]) -> None:
    study, allowed = study_with("Tiny", size, width=8)
    names = {f"{layer}.{part}" for layer in ("fine", "coarse") for part in ("weight", "bias")}
    assert pyramid_of(study, allowed) == Pyramid((8, 8), (1, 2), len(size), frozenset(names))
    levels = build_encoder(study, allowed)(torch.rand(3, 2, *size))
    assert [level.shape[0] for level in levels] == [3, 3]


def test_a_path_that_the_site_does_not_allow_is_refused_and_not_imported() -> None:
    study = study_of("custom", path="antigravity:Tiny")
    for allowed in ((), ("antigravity:Other",), ("antigravity",)):
        with pytest.raises(Problem, match="not among the encoders that this site allows"):
            build_encoder(study, allowed)
        with pytest.raises(Problem, match="not among the encoders that this site allows"):
            pyramid_of(study, allowed)
    assert "antigravity" not in sys.modules


def test_a_permission_is_not_remembered_for_a_site_without_it() -> None:
    study, allowed = study_with("Tiny", width=4)
    pyramid_of(study, allowed)
    with pytest.raises(Problem, match="not among"):
        pyramid_of(study)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_package.here:Tiny", "cannot be imported.*ModuleNotFoundError"),
        (f"{PACKAGE}:Missing", "cannot be imported.*AttributeError"),
        (f"{PACKAGE}:function", "is no torch module"),
    ],
)
def test_a_class_that_is_not_there_is_named(path: str, said: str) -> None:
    with pytest.raises(Problem, match=said):
        build_encoder(study_of("custom", path=path), (path,))


@pytest.mark.parametrize("options", [{"depth": 3}, {"in_channels": 1}, {"width": -1}])
def test_options_that_the_class_does_not_take_are_told(options: dict[str, Any]) -> None:
    study, allowed = study_with("Tiny", **options)
    with pytest.raises(Problem, match="cannot be built"):
        build_encoder(study, allowed)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Averaging", "buffer norm.running_mean"),
        ("Doubled", "float64"),
        ("Single", "returns a Tensor; expected a list of tensors"),
        ("Backwards", r"strides \[2, 1\]; expected the finest level first"),
        ("Thirds", r"level 1 has the shape \[1, 4, 3, 3\]"),
        ("Pooled", r"level 1 has the shape \[1, 4\]"),
        ("Random", "is not the same whenever it is built"),
        ("Dropping", r"has dropout of 0\.1 in drop, .* expected no dropout"),
        ("Attending", r"has dropout of 0\.2 in attention"),
        ("Shaken", "differently in training"),
        ("Counted", "is not the same whenever it is built"),
        ("Frozen", "no parameter of it can learn"),
        ("Failing", "KeyError: 'a mistake of its own'"),
    ],
)
def test_what_cannot_be_shared_is_refused(name: str, said: str) -> None:
    study, allowed = study_with(name)
    with pytest.raises(Problem, match=said):
        pyramid_of(study, allowed)


def test_dropout_of_nothing_is_none() -> None:
    study, allowed = study_with("Dropping", share=0.0)
    assert pyramid_of(study, allowed).channels == (4, 4)


def test_tables_that_the_class_draws_are_equal_at_every_site() -> None:
    study, allowed = study_with("Tabled")
    one, two = build_encoder(study, allowed).state_dict(), build_encoder(study, allowed).state_dict()
    assert torch.equal(one["table"], two["table"])
    assert one["scale"].tolist() == [0.5] * 4
    assert {"table", "scale"} < pyramid_of(study, allowed).used


def test_an_array_with_two_names_travels_once_and_is_kept_once() -> None:
    plain = Aliased(2, 2).state_dict()
    assert {"fine.weight", "again.weight"} < set(plain)
    study, allowed = study_with("Aliased")
    encoder = torch.nn.ModuleDict({"encoder": build_encoder(study, allowed)})
    used = pyramid_of(study, allowed).used
    assert used == {f"{layer}.{part}" for layer in ("fine", "coarse") for part in ("weight", "bias")}
    state = encoder.state_dict()
    assert {name.removeprefix("encoder.") for name in state} == used | {"idle.weight", "idle.bias"}
    encoder.load_state_dict({name: value + 1 for name, value in state.items()})
    inner = encoder["encoder"]
    assert torch.equal(inner.get_parameter("again.weight"), inner.get_parameter("fine.weight"))


def test_a_batch_norm_of_ones_own_is_known_by_its_type() -> None:
    study, allowed = study_with("Normed")
    encoder = build_encoder(study, allowed)
    kinds = {name: entry.kind for name, entry in entries_of(encoder).items()}
    assert {name: kind for name, kind in kinds.items() if kind != "weight"} == {
        "norm.weight": "affine",
        "norm.bias": "affine",
        "norm.running_mean": "statistic",
        "norm.running_var": "statistic",
        "norm.num_batches_tracked": "counter",
    }
    encoder.load_state_dict({name: value + 1 for name, value in encoder.state_dict().items()})
    assert encoder.get_buffer("again.running_var").tolist() == [2.0] * 4


def test_a_state_that_truly_lacks_an_array_is_still_refused() -> None:
    study, allowed = study_with("Aliased")
    encoder = build_encoder(study, allowed)
    state = dict(encoder.state_dict())
    del state["coarse.weight"]
    with pytest.raises(RuntimeError, match=r"coarse\.weight"):
        encoder.load_state_dict(state)
