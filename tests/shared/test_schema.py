"""The schema: one flat vector and the named arrays are the same thing; nothing else passes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_shared.problems import Code, Refused
from polyward_shared.schema import ArraySpec, Schema, group_of

SIDES = st.lists(st.integers(1, 4), max_size=3).map(tuple)
NAMES = st.sampled_from(["encoder.a", "encoder.b.c", "branches.mask.w", "branches.grade.w", "branches.grade.b"])
ARRAYS = st.dictionaries(NAMES, SIDES, min_size=1).map(
    lambda shapes: {
        name: np.random.default_rng(len(name)).normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
)
SCHEMA = Schema((ArraySpec("encoder.w", (2, 3)), ArraySpec("encoder.b", (3,)), ArraySpec("branches.mask.w", (2,))))


@settings(max_examples=50, deadline=None)
@given(ARRAYS)
def test_pack_and_views_are_inverse(arrays: dict[str, np.ndarray]) -> None:
    schema = Schema.of(arrays)
    flat = schema.pack(arrays)
    assert flat.size == schema.size
    views = schema.views(flat)
    assert views.keys() == arrays.keys()
    for name, view in views.items():
        np.testing.assert_array_equal(view, arrays[name])
        assert np.shares_memory(view, flat)
    assert Schema.from_json(schema.to_json()) == schema


@settings(max_examples=50, deadline=None)
@given(ARRAYS)
def test_groups_cover_the_vector_without_overlap_the_encoder_first(arrays: dict[str, np.ndarray]) -> None:
    schema = Schema.of(arrays)
    flat = schema.pack(arrays)
    pieces = [flat[where] for where in schema.groups.values()]
    np.testing.assert_array_equal(np.concatenate(pieces), flat)
    assert list(schema.groups) == sorted(schema.groups, key=lambda name: (name != "encoder", name))
    for name, where in schema.groups.items():
        assert schema.group(name).size == where.stop - where.start
        assert all(group_of(spec.name) == name for spec in schema.group(name).arrays)


def test_group_of() -> None:
    assert group_of("encoder.conv.weight") == "encoder"
    assert group_of("branches.mask.head.bias") == "branches.mask"
    assert group_of("balancer.logits") == "balancer"


def good() -> dict[str, np.ndarray]:
    return {spec.name: np.zeros(spec.shape, np.float32) for spec in SCHEMA.arrays}


@pytest.mark.parametrize(
    "change",
    [
        {"branches.grade.w": np.zeros(2, np.float32)},
        {"optimiser.step": np.zeros(1, np.float32)},
        {"encoder.w": None},
        {"encoder.w": np.zeros((3, 2), np.float32)},
        {"encoder.w": np.zeros((2, 3), np.float64)},
        {"encoder.w": np.zeros((2, 3), np.float16)},
        {"encoder.b": np.zeros((3, 1), np.float32)},
        {"encoder.b": np.float32(0)},
    ],
)
def test_anything_but_the_schema_is_refused(change: dict[str, np.ndarray | None]) -> None:
    arrays = {name: value for name, value in {**good(), **change}.items() if value is not None}
    with pytest.raises(Refused) as caught:
        SCHEMA.pack(arrays)
    assert caught.value.code is Code.EGRESS_SCHEMA


def test_views_of_another_length_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="expected 11 values"):
        SCHEMA.views(np.zeros(10, np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "null",
        "3",
        '"ab"',
        "{}",
        "[3]",
        '["ab"]',
        '[["a"]]',
        '[["a",3]]',
        '[["a","3"]]',
        '[["a",["3"]]]',
        '[["a",[3.0]]]',
        '[["a",[true]]]',
        '[["a",[0]]]',
        '[["a",[-3]]]',
        '[["a",[1e999]]]',
        '[["a",[Infinity]]]',
        '[["a",[NaN]]]',
        '[["a",[99999999999999999999999999]]]',
        "[[3,[3]]]",
        '[["a",[3],"more"]]',
        '[["a",[3]],["a",[3]]]',
        '[["encoder.a",[3]],["branches.t.b",[2]],["encoder.c",[3]]]',
        ' [["a",[3]]]',
        '[["a", [3]]]',
        "[" * 100_000,
        '[["a",' + "9" * 5000 + "]]",
    ],
)
def test_a_foreign_schema_is_a_value_error_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="a schema"):
        Schema.from_json(text)


def test_digests_tell_names_shapes_order_and_values_apart() -> None:
    others = [
        Schema((ArraySpec("encoder.w", (3, 2)), *SCHEMA.arrays[1:])),
        Schema((ArraySpec("encoder.v", (2, 3)), *SCHEMA.arrays[1:])),
        Schema((SCHEMA.arrays[1], SCHEMA.arrays[0], SCHEMA.arrays[2])),
    ]
    flat = SCHEMA.pack(good())
    assert len({schema.state_digest(flat) for schema in [SCHEMA, *others]}) == 4
    assert len({schema.digest for schema in [SCHEMA, *others]}) == 4
    moved = flat.copy()
    moved[-1] = np.nextafter(np.float32(0), np.float32(1))
    digests, after = SCHEMA.group_digests(flat), SCHEMA.group_digests(moved)
    assert digests["encoder"] == after["encoder"]
    assert digests["branches.mask"] != after["branches.mask"]


def test_a_group_has_the_same_digest_at_sites_with_other_branches() -> None:
    flat = SCHEMA.pack(good())
    alone = SCHEMA.group("encoder")
    assert SCHEMA.group_digests(flat)["encoder"] == alone.state_digest(np.zeros(9, np.float32))
    assert json.loads(alone.to_json()) == [["encoder.w", [2, 3]], ["encoder.b", [3]]]
