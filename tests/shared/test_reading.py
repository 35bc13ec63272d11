"""A person's TOML file: one exact error, or the checked record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from polyward_shared.problems import Problem
from polyward_shared.reading import SHOWN_AT_ONCE, Frozen, formed, read_toml, validated


class Inner(Frozen):
    size: tuple[int, ...] = Field(min_length=2)
    name: Annotated[str, formed(r"[a-z]+", "small letters")] = "a"


class Outer(Frozen):
    count: int
    share: float = 1.0
    inner: Inner = Inner(size=(1, 2))
    maybe: Inner | None = None


def problem_of(data: dict[str, Any]) -> str:
    with pytest.raises(Problem) as caught:
        validated(data, Outer, where="a.toml")
    assert str(caught.value).startswith("a.toml: ")
    return caught.value.found


def test_a_good_file_is_read_and_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("count = 3\nshare = 1\n[inner]\nsize = [4, 5]\n")
    record = read_toml(path, Outer)
    assert (record.count, record.share, record.inner.size) == (3, 1.0, (4, 5))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(record, "count", 4)  # noqa: B010  a plain assignment is what mypy refuses


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"count": 1, "cuont": 2}, "cuont: this key is unknown; expected count, share, inner, maybe"),
        ({"count": 1, "inner": {"sze": 1, "size": [1, 2]}}, "inner.sze: this key is unknown; expected size, name"),
        ({"count": 1, "maybe": {"sze": 1, "size": [1, 2]}}, "maybe.sze: this key is unknown; expected size, name"),
        ({}, "count: is missing"),
        ({"count": "1"}, "count: found '1'; expected a valid integer"),
        ({"count": True}, "count: found True; expected a valid integer"),
        ({"count": 1.0}, "count: found 1.0; expected a valid integer"),
        ({"count": 1, "share": float("nan")}, "share: found nan; expected a finite number"),
        ({"count": 1, "inner": 5}, "inner: found 5; expected a table"),
        ({"count": 1, "inner": {"size": [1]}}, "inner.size: found [1]; expected at least 2 entries"),
        ({"count": 1, "inner": {"size": [1, "x"]}}, "inner.size.1: found 'x'; expected a valid integer"),
        ({"count": 1, "inner": {"size": [1, 2], "name": "A"}}, "inner.name: found 'A'; expected small letters"),
    ],
)
def test_the_error_names_key_found_and_expected(data: dict[str, Any], found: str) -> None:
    assert problem_of(data) == found


def test_many_mistakes_do_not_hide_the_first() -> None:
    lines = problem_of({f"key{i}": i for i in range(20)}).splitlines()
    assert len(lines) == SHOWN_AT_ONCE + 1
    assert lines[0] == "count: is missing"
    assert lines[-1].strip() == "and 16 more"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"count = = 1", "is not valid TOML"),
        (b"count = 1\ncount = 2", "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"count = " + b"9" * 5000, "is not valid TOML"),
        (b"count = " + b"[" * 5000, "is not valid TOML"),
        (b"count = 0x" + b"f" * 5000, "without end"),
        (b"a." * 3000 + b"b = 1", "without end"),
        (b'count = "\\u0000"', "holds a NUL character"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Problem, match=found) as caught:
        read_toml(path, Outer)
    assert caught.value.where == str(path)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is a folder"):
        read_toml(tmp_path, Outer)
