"""Reading a person's TOML file into a checked, frozen object, with one exact error when it is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from polyward_shared.problems import Problem

SHOWN_AT_ONCE = 5  # more lines than this hide the first mistake instead of helping


class Frozen(BaseModel):
    """A record from a file or the wire: unknown keys are refused, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


RecordT = TypeVar("RecordT", bound=BaseModel)


def read_toml(path: Path, record: type[RecordT]) -> RecordT:
    """The file as a `record`. Raises `Problem` naming file, key, what was found and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file", remedy="check the path") from None
    except IsADirectoryError:
        raise Problem(str(path), "is a folder", expected="a TOML file") from None
    except UnicodeDecodeError:
        raise Problem(str(path), "is not UTF-8 text", expected="a TOML file") from None
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Problem(str(path), f"is not valid TOML: {error}", remedy="mend the line that is named") from None
    return validated(data, record, where=str(path))


def validated(data: Any, record: type[RecordT], *, where: str) -> RecordT:
    """`data` as a `record`. Raises one `Problem` that lists every wrong key of `where`."""
    try:
        return record.model_validate(data)
    except ValidationError as error:
        lines = [_sentence(detail) for detail in error.errors(include_url=False, include_context=True)]
        shown = lines[:SHOWN_AT_ONCE]
        if len(lines) > len(shown):
            shown.append(f"and {len(lines) - len(shown)} more")
        raise Problem(where, "\n  ".join(shown), remedy="mend the keys that are named") from None


def _sentence(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"] if not _is_union_tag(part)) or "the file"
    kind = detail["type"]
    if kind == "extra_forbidden":
        return f"{key}: this key is unknown; expected one of those in the documentation (a typing error?)"
    if kind == "missing":
        return f"{key}: is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    found = detail["input"]
    if kind == "value_error" and isinstance(found, dict):
        return message if key == "the file" else f"{key}: {message}"
    if kind == "value_error":
        return f"{key}: found {found!r}; {message}"
    return f"{key}: found {found!r}; expected {message}"


def _is_union_tag(part: int | str) -> bool:
    """Pydantic puts the chosen kind of a task into the path; no such key stands in the file."""
    return isinstance(part, str) and part in {"binary", "multiclass", "ordinal", "regression", "segmentation"}
