"""The wire's two forms: float32 loses nothing; bfloat16 rounds the change, and both ends then hold the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polyward_shared import codec
from polyward_shared.codec import BYTES_PER_VALUE, decode, encode
from polyward_shared.schema import Flat

# Changes from one end of bfloat16's normal numbers to the other, and bases that a weight may have.
NORMAL = st.floats(2.0**-100, 2.0**100, width=32) | st.floats(-(2.0**100), -(2.0**-100), width=32) | st.just(0.0)
VECTORS = hnp.arrays(np.float32, st.integers(1, 20), elements=NORMAL)
WEIGHTS = hnp.arrays(np.float32, 20, elements=st.floats(-4, 4, width=32))


@settings(deadline=None)
@given(VECTORS)
def test_a_change_is_rounded_by_at_most_one_part_in_256(change: Flat) -> None:
    base = np.zeros_like(change)
    found = decode("bfloat16", encode("bfloat16", change, base), base)
    assert (np.abs(found - change) <= 2.0**-8 * np.abs(change)).all()
    assert encode("bfloat16", found, base) == encode("bfloat16", change, base)


@settings(deadline=None)
@given(WEIGHTS, WEIGHTS)
def test_the_state_is_as_near_as_the_change_and_float32_allow(flat: Flat, base: Flat) -> None:
    found = decode("bfloat16", encode("bfloat16", flat, base), base)
    change = np.abs(flat.astype(np.float64) - base)
    allowed = 2.0**-8 * change + 2.0**-22 * np.maximum(np.abs(flat), np.abs(base)) + 2.0**-133
    assert (np.abs(found.astype(np.float64) - flat) <= allowed).all()


@settings(deadline=None)
@given(VECTORS)
def test_float32_is_exact(flat: Flat) -> None:
    data = encode("float32", flat, None)
    assert len(data) == flat.size * BYTES_PER_VALUE["float32"]
    assert decode("float32", data, None).tobytes() == flat.tobytes()


def test_rounding_by_hand() -> None:
    """1 + 2**-8 lies half way between two bfloat16 numbers: to the even one; a little more goes up."""
    flat = np.array([1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-20, 1 + 3 * 2.0**-8, -1.0], np.float32)
    base = np.zeros(4, np.float32)
    assert decode("bfloat16", encode("bfloat16", flat, base), base).tolist() == [1, 1 + 2.0**-7, 1 + 2.0**-6, -1]
    assert encode("bfloat16", flat[-1:], base[-1:]) == b"\x80\xbf"


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001])
def test_every_nan_stays_a_nan(bits: int) -> None:
    flat = np.array([bits], np.uint32).view(np.float32)
    base = np.zeros(1, np.float32)
    for form in ("float32", "bfloat16"):
        assert np.isnan(decode(form, encode(form, flat, base), base)).all()


def test_infinities_stay_infinite() -> None:
    flat, base = np.array([np.inf, -np.inf], np.float32), np.zeros(2, np.float32)
    np.testing.assert_array_equal(decode("bfloat16", encode("bfloat16", flat, base), base), flat)


def test_hostile_changes_decode_without_a_warning() -> None:
    base = np.full(3, np.finfo(np.float32).max, np.float32)
    found = decode("bfloat16", np.array([0x7F7F, 0x7F80, 0x7FC0], "<u2").tobytes(), base)
    assert not np.isfinite(found).any()


def test_slices_join(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    flat, base = rng.normal(size=(2, 1000)).astype(np.float32)
    whole = encode("bfloat16", flat, base)
    monkeypatch.setattr(codec, "SLICE", 7)
    assert encode("bfloat16", flat, base) == whole
    np.testing.assert_array_equal(decode("bfloat16", whole, base), base + (decode("bfloat16", whole, base) - base))


@pytest.mark.parametrize(("form", "data"), [("float32", b"abc"), ("bfloat16", b"abc"), ("bfloat16", b"ab")])
def test_another_length_is_refused(form: codec.Codec, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"size|expected"):
        decode(form, data, np.zeros(2, np.float32))


def test_a_change_needs_a_base() -> None:
    with pytest.raises(ValueError, match="both sides hold"):
        encode("bfloat16", np.zeros(1, np.float32), None)
    with pytest.raises(ValueError, match="both sides hold"):
        decode("bfloat16", b"ab", None)
