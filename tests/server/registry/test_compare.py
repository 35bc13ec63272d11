"""How far two encoders lie apart, by hand and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyward_server.registry import compare as module
from polyward_server.registry.compare import Distance, compare, stage_of

Values = st.floats(-1000, 1000, width=32)
Vectors = arrays(np.float32, 6, elements=Values)


def named(first: list[float], second: list[float], last: list[float]) -> dict[str, np.ndarray]:
    names = ("encoder.layers.0.w", "encoder.layers.0.b", "encoder.head")
    return {name: np.array(each, np.float32) for name, each in zip(names, (first, second, last), strict=True)}


A = named([3, 4], [0, 0], [1, 0])
B = named([3, 1], [0, 0], [0, 4])  # changes: (0, -3), none, (-1, 4): squares 9, 0, 17


def numbers(each: Distance) -> tuple[float | None, ...]:
    return each.values, each.relative, each.cosine, each.greatest, each.share


def test_arrays_by_hand() -> None:
    head, weights, zeros = compare(A, B).arrays
    assert [head.name, weights.name, zeros.name] == ["encoder.head", "encoder.layers.0.w", "encoder.layers.0.b"]
    assert numbers(head) == pytest.approx((2, 17**0.5, 0.0, 4.0, 17 / 26))
    assert numbers(weights) == pytest.approx((2, 3 / 5, 13 / (5 * 10**0.5), 3.0, 9 / 26))
    assert numbers(zeros) == (2, 0.0, None, 0.0, 0.0)
    assert head.shape == (2,)


def test_stages_and_the_whole_by_hand() -> None:
    found = compare(A, B)
    assert [(each.name, each.values, each.share) for each in found.stages] == [
        ("head", 2, 17 / 26),
        ("layers.0", 4, 9 / 26),
    ]
    assert found.whole.relative == pytest.approx((26 / 26) ** 0.5)
    assert found.whole.cosine == pytest.approx(13 / (26**0.5 * 26**0.5))
    assert (found.whole.greatest, found.whole.share, found.alike) == (4.0, 1.0, True)


def test_a_change_from_nothing_has_no_relative_distance() -> None:
    [only] = compare({"encoder.w": np.zeros(2, np.float32)}, {"encoder.w": np.ones(2, np.float32)}).arrays
    assert (only.relative, only.cosine, only.share) == (None, None, 1.0)


def test_encoders_of_another_kind_say_which_arrays_differ() -> None:
    one = {f"encoder.{name}": np.ones(size, np.float32) for name, size in (("a", 2), ("b", 3), ("c", 1))}
    other = {**one, "encoder.b": one["encoder.b"].reshape(3, 1), "encoder.d": one["encoder.a"]}
    del other["encoder.a"]
    found = compare(one, other)
    assert (found.only_a, found.only_b, found.alike) == (("encoder.a",), ("encoder.d",), False)
    assert [(each.name, each.a, each.b) for each in found.reshaped] == [("encoder.b", (3,), (3, 1))]
    assert [each.name for each in found.arrays] == ["encoder.c"]


@given(Vectors, Vectors)
def test_the_cosine_is_symmetric_and_shares_make_one(a: np.ndarray, b: np.ndarray) -> None:
    one, other = ({"encoder.v": v[:4], "encoder.w": v[4:]} for v in (a, b))
    there, back = compare(one, other), compare(other, one)
    assert there.whole.cosine == pytest.approx(back.whole.cosine) if there.whole.cosine is not None else True
    assert {each.name: each.share for each in there.arrays} == {each.name: each.share for each in back.arrays}
    assert sum(each.share for each in there.arrays) == pytest.approx(0.0 if np.array_equal(a, b) else 1.0)
    assert there.whole.greatest == back.whole.greatest == np.abs(a.astype(np.float64) - b).max()


@given(Vectors)
def test_an_encoder_is_at_no_distance_from_itself(a: np.ndarray) -> None:
    whole = compare({"encoder.v": a}, {"encoder.v": a}).whole
    assert (whole.relative, whole.greatest, whole.share) == (0.0, 0.0, 0.0)
    assert whole.cosine == (pytest.approx(1.0) if a.any() else None)


def test_large_arrays_are_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compare(A, B)
    monkeypatch.setattr(module, "CHUNK", 1)
    assert compare(A, B) == whole


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("encoder.layers.0.blocks.1.conv1.weight", "layers.0"),
        ("encoder.conv_init.weight", "conv_init"),
        ("encoder.body.blocks.12.norm.bias", "body.blocks.12"),
        ("encoder.w", "w"),
    ],
)
def test_the_stage_of_an_array(name: str, stage: str) -> None:
    assert stage_of(name) == stage
