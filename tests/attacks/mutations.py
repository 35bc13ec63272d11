"""Inputs that were sound once: bytes with a few edits, and tables with one value in another's place."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

PIECES = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"'",
    b",",
    b"\n",
    b"\r",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"9" * 5000,
    b"0x" + b"f" * 5000,
    b"1e999",
    b"-1",
    b"nan",
    b"../../",
    b"\\ud800",
    "\u202e\U0001f4a3".encode(),
    b"\x1b[2J",
    b"x" * 70_000,
]


def mutated(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the samples with up to five edits, or any bytes at all."""
    edit = st.tuples(
        st.floats(0, 1),
        st.sampled_from(["put", "cut", "double", "flip"]),
        st.integers(0, 40),
        st.sampled_from(PIECES) | st.binary(max_size=12),
    )
    edited = st.builds(_edited, st.sampled_from(list(samples)), st.lists(edit, max_size=5))
    return st.one_of(edited, edited, edited, st.binary(max_size=200), st.sampled_from(PIECES))


def _edited(sample: bytes, edits: Sequence[tuple[float, str, int, bytes]]) -> bytes:
    data = bytearray(sample)
    for where, kind, length, piece in edits:
        at = int(where * len(data))
        match kind:
            case "put":
                data[at:at] = piece
            case "cut":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "flip" if data:
                data[min(at, len(data) - 1)] ^= 1 << length % 8
    return bytes(data)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**64, 10**400, 1e308, -0.0]),
    st.sampled_from(["", "x" * 300, "../x", "\x00", "${HOME}", "~\x00", "$X", "h:99999", "[::1::]:1", "a..b:1"]),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(-2, 9) | st.text(max_size=3), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=3), max_size=2),
)


def changed(table: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The table with up to three of its values, at any depth, taken out or replaced by another's or by any value."""
    places = list(_places(table))
    value = VALUES | st.sampled_from([_at(table, place) for place in places])
    change = st.tuples(st.sampled_from(places), st.sampled_from(["set", "set", "drop", "add"]), value)
    return st.builds(_changed, st.just(table), st.lists(change, max_size=3))


def _changed(table: dict[str, Any], changes: list[tuple[tuple[Any, ...], str, Any]]) -> dict[str, Any]:
    made = copy.deepcopy(table)
    for place, kind, value in changes:
        try:
            holder = _at(made, place[:-1])
            if kind == "drop":
                del holder[place[-1]]
            elif kind == "add" and isinstance(holder, dict):
                holder["further"] = copy.deepcopy(value)
            else:
                holder[place[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    return made


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((*here, key), *_places(value[key], (*here, key)))]


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value
