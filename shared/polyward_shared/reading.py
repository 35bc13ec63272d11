"""Reading a person's TOML file into a checked, frozen object, with one exact error when it is wrong."""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_left
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from polyward_shared.problems import Problem

PYDANTIC_PART = re.compile(r"\[key\]|(literal|tuple|function-after|constrained-str)(\[.*\])?")  # of an error's place
TAGS = {(1, "encoder"), (2, "tasks")}  # where pydantic puts the chosen kind of a table that has kinds
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
        raise Problem(str(path), "is a folder", expected="a TOML file", remedy="name the file in it") from None
    except UnicodeDecodeError:
        raise Problem(str(path), "is not UTF-8 text", remedy="save it again with UTF-8 as its encoding") from None
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})", remedy="mend its permissions") from None
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOML's own error is a ValueError; so is a number without end
        raise Problem(str(path), f"is not valid TOML: {error}", remedy="mend the line that is named") from None
    return validated(data, record, where=str(path))


def validated(data: Any, record: type[RecordT], *, where: str) -> RecordT:
    """`data` as a `record`. Raises one `Problem` that lists every wrong key of `where`.

    Strict: `"5"`, `5.0` and `true` are not the number 5.
    """
    try:
        text = json.dumps(data, default=str)  # a list becomes a tuple only by way of JSON
    except (ValueError, RecursionError):
        raise Problem(where, "holds a number, or tables in tables, without end", remedy="write the file anew") from None
    if "\\u0000" in text:
        raise Problem(where, "holds a NUL character, which no name and no path has", remedy="remove it")
    try:
        return record.model_validate_json(text, strict=True)
    except ValidationError as error:
        lines = _sentences(error.errors(include_url=False, include_context=True), record)
        shown = lines[:SHOWN_AT_ONCE]
        if len(lines) > len(shown):
            shown.append(f"and {len(lines) - len(shown)} more")
        raise Problem(where, "\n  ".join(shown), remedy="mend the keys that are named") from None


def formed(pattern: str, expected: str) -> AfterValidator:
    """Texts of one form; the error says it in words instead of showing the pattern."""
    form = re.compile(pattern)

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def _sentences(details: list[ErrorDetails], record: type[BaseModel]) -> list[str]:
    """One line for each wrong key; a value that fits none of several forms is told once, with all of them."""
    lines: dict[str, str] = {}
    for detail in details:
        key, sentence = _sentence(detail, record)
        found, _, expected = sentence.partition("; expected ")
        if key in lines and expected and lines[key].startswith(found):
            lines[key] += f", or {expected}"
        else:
            lines.setdefault(key, sentence)
    # a wrong entry makes its list too short as well: the entry is told
    ordered = sorted(lines)  # of thousands of keys, too, each has those within it at hand
    outer = {key for key in lines if key and _first_from(ordered, f"{key}.").startswith(f"{key}.")}
    return [f"{key}: {line}" if key else line for key, line in lines.items() if key not in outer]


def _first_from(ordered: list[str], text: str) -> str:
    """The first that is not before `text`, or nothing."""
    return next(iter(ordered[(place := bisect_left(ordered, text)) : place + 1]), "")


def _sentence(detail: ErrorDetails, record: type[BaseModel]) -> tuple[str, str]:
    loc, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    key = _key(loc)
    found = detail["input"]
    if kind == "extra_forbidden":
        known = ", ".join(_known_keys(record, loc[:-1])) or "one of those in the documentation"
        return key, f"this key is unknown; expected {known}"
    if kind == "missing":
        return key, "is missing"
    if kind == "union_tag_not_found":
        return f"{key}.kind", "is missing"
    if kind == "union_tag_invalid":
        return f"{key}.kind", f"found {context['tag']!r}; expected {context['expected_tags']}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error" and isinstance(found, dict):
        return key, message
    if kind == "value_error":
        return key, f"found {found!r}; {message}"
    plain = {
        "too_short": f"at least {context.get('min_length')} entries",
        "too_long": f"at most {context.get('max_length')} entries",
        "string_too_short": f"at least {context.get('min_length')} characters",
        "string_too_long": f"at most {context.get('max_length')} characters",
        "model_type": "a table",
        "dict_type": "a table",
        "tuple_type": "a list",
    }
    return key, f"found {found!r}; expected {plain.get(kind, message)}"


def _key(loc: tuple[int | str, ...]) -> str:
    """The key as it stands in the file: pydantic adds which form it tried, and the chosen kind of a task."""
    named = [
        p
        for place, p in enumerate(loc)
        if not (isinstance(p, str) and PYDANTIC_PART.fullmatch(p))
        and ((place, loc[0]) not in TAGS or len(loc) == place + 1)
    ]
    return ".".join(map(str, named))


def _known_keys(record: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at `loc`, or nothing where the file's own names stand on the way."""
    for part in loc:
        field = record.model_fields.get(str(part))
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        record = inner[0]
    return list(record.model_fields)
