"""What the form of a new study asks, read off the study's own models: keys, kinds, choices, defaults, explanations.

An explanation is the comment beside the field where it is defined, so the form and the code say the same. Values are
one line of text in the form, whatever their kind; what has no such line is written as TOML beside it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from polyward_shared import encoders, tasks
from polyward_shared.reading import Frozen
from polyward_shared.study import Study

Kind = Literal["text", "whole", "number", "choice", "switch", "texts", "numbers", "mixed"]

FIELD = re.compile(r"    (\w+): .*?(?:  # (.*))?$")
ESSENTIAL = frozenset(
    {
        "id", "rounds", "image.channels", "image.size", "image.spacing", "training.schedule", "training.epochs",
        "training.batch", "training.learning_rate", "participation.quorum", "participation.deadline_seconds",
        "wire.codec", "aggregation.rule", "aggregation.weighting", "sharing.branches", "personal.alone",
        "classes", "points", "times",
    }
)  # fmt: skip
ENCODERS: dict[str, type[BaseModel]] = {
    "segres": encoders.SegRes,
    "basicunet": encoders.BasicUNet,
    "resnet": encoders.ResNet,
    "swin": encoders.Swin,
    "vit": encoders.ViT,
    "custom": encoders.Custom,
}
TASKS: dict[str, type[BaseModel]] = {
    kind: getattr(tasks, kind.capitalize()) for kind in tasks.METRICS
}  # each kind is a class of its name


class Question(Frozen):
    """One field of the form; `key` is where its value stands in study.toml."""

    key: str
    label: str
    help: str
    kind: Kind
    default: str  # as a line of text; empty where there is none
    blank: bool  # the default itself is an empty text or list, which an empty line therefore says
    choices: tuple[str, ...]
    required: bool
    essential: bool


class Section(Frozen):
    """The questions of one table of study.toml."""

    name: str
    about: str
    questions: tuple[Question, ...]


@cache
def sections() -> tuple[Section, ...]:
    """Every table of one kind alone, the study's own keys first."""
    own = {name: field for name, field in Study.model_fields.items() if _kind(field.annotation)}
    found = [Section(name="study", about="", questions=_asked(own, beside(Study), ""))]
    for name, field in Study.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            found.append(Section(name=name, about=_about(model), questions=questions_of(model, f"{name}.")))
    return tuple(found)


@cache
def encoder_questions() -> Mapping[str, Section]:
    """By kind of encoder."""
    return {
        kind: Section(name=kind, about=_about(model), questions=questions_of(model, "encoder."))
        for kind, model in ENCODERS.items()
    }


@cache
def task_questions() -> Mapping[str, Section]:
    """By kind of task; keys are relative to the task's table."""
    return {
        kind: Section(name=kind, about=_about(model), questions=questions_of(model, ""))
        for kind, model in TASKS.items()
    }


def questions_of(model: type[BaseModel], prefix: str) -> tuple[Question, ...]:
    """The fields of a table that have one line of text, but for the `kind` that has been chosen already."""
    told = {} if prefix == "balancer." else {"kind"}
    if prefix == "topology.":
        told = set()
    fields = {name: field for name, field in model.model_fields.items() if name not in told and _kind(field.annotation)}
    return _asked(fields, beside(model), prefix)


def beside(model: type[BaseModel]) -> dict[str, str]:
    """The comment beside each field, or above it, where the model and those before it define it."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not issubclass(each, Frozen) or each is Frozen:
            continue
        above: list[str] = []
        for line in inspect.getsource(each).splitlines():
            if line.startswith("    # "):
                above.append(line.removeprefix("    # "))
            elif match := FIELD.match(line):
                found[match[1]] = (match[2] or " ".join(above)).replace("`", "")
                above = []
    return found


def as_text(value: Any) -> str:
    """A value as its line in the form."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(as_text(each) for each in value)
    return repr(value) if isinstance(value, float) else str(value)


def as_value(kind: Kind, text: str) -> Any:
    """The value that the line says; what cannot be read as its kind stays text, for the study's own error."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    match kind:
        case "switch":
            return {"true": True, "false": False}.get(text, text)
        case "whole" | "number":
            return _number(text.strip())
        case "texts":
            return parts
        case "numbers":
            return [_number(part) for part in parts]
        case "mixed":
            values = [_number(part) for part in parts]
            return text.strip() if any(isinstance(value, str) for value in values) else values
        case "choice":
            return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text
        case _:
            return text


def _about(model: type[BaseModel]) -> str:
    """What the table is for; where its code lies is nothing for those who fill in a form."""
    sentences = re.split(r"(?<=\.)\s+", inspect.getdoc(model) or "")
    return " ".join(sentence for sentence in sentences if "folder" not in sentence).replace("`", "")


def _number(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text) if len(text) < 40 else text
        except ValueError:
            continue
    return text


def _asked(fields: Mapping[str, FieldInfo], helps: Mapping[str, str], prefix: str) -> tuple[Question, ...]:
    asked = []
    for name, field in fields.items():
        kind, choices = _kind(field.annotation) or ("text", ())
        key = f"{prefix}{name}"
        default = field.get_default(call_default_factory=True, validated_data={})
        asked.append(
            Question(
                key=key,
                label=name.replace("_", " "),
                help=helps.get(name, ""),
                kind=kind,
                default="" if default is PydanticUndefined else as_text(default),
                blank=default in ("", ()),
                choices=choices,
                required=field.is_required(),
                essential=key in ESSENTIAL,
            )
        )
    return tuple(sorted(asked, key=lambda question: not question.essential))


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]] | None:
    """How a value of this type is written in one line; None for tables and lists of tables."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin, inner = get_origin(annotation), get_args(annotation)
    plain: dict[Any, Kind] = {bool: "switch", int: "whole", float: "number", str: "text"}
    if annotation in plain:
        return plain[annotation], ()
    if origin is Literal:
        return "choice", tuple(str(value) for value in inner)
    if origin is tuple:
        each = _kind(inner[0])
        if each is None:
            return None
        return ("numbers" if each[0] in {"whole", "number"} else "texts"), each[1]
    if origin in {Union, UnionType}:
        kinds = [_kind(part) for part in inner if part is not NoneType]
        if None in kinds:
            return None
        found = [each for each in kinds if each]
        if len(found) == 1:
            return found[0]
        return ("mixed" if any(kind == "numbers" for kind, _ in found) else "text"), ()
    return None
