"""The form of a new study as it is sent, the study that it says, and the form that says a study."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import tomli_w
from pydantic import Field

from polyward_server.dashboard.questions import (
    Question,
    as_text,
    as_value,
    encoder_questions,
    sections,
    task_questions,
)
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, validated
from polyward_shared.study import Study

Line = Annotated[str, Field(max_length=10_000)]
Key = Annotated[str, Field(max_length=100)]
Entries = Annotated[dict[Key, Line], Field(max_length=300)]
Text = Annotated[str, Field(max_length=200_000)]
PART = r"""(?:(?<![\w-])[\w-]{1,100}+|"[^"\n]{0,100}+"|'[^'\n]{0,100}+')[ \t]{0,100}+"""
DEEP = re.compile(
    rf"{PART}(?:\.[ \t]{{0,100}}+{PART}){{20}}"
)  # the parser's time grows with the square of a key's parts
LINE = re.compile(r"(?P<key>[a-z_][\w.-]*): (?:(?P<inner>[a-z_]+): )?(?P<sentence>.*)", re.DOTALL)


class TaskForm(Frozen):
    """One task: its name, its kind, and its fields by their keys in its own table."""

    name: Annotated[str, Field(max_length=200)] = ""
    kind: Annotated[str, Field(max_length=40)] = ""
    entries: Entries = Field(default_factory=dict)


class StudyForm(Frozen):
    """What was filled in. `rest` is TOML for what the form does not ask. An empty line means: not set."""

    entries: Entries = Field(default_factory=dict)
    encoder: Annotated[str, Field(max_length=40)] = "segres"  # kind
    tasks: Annotated[tuple[TaskForm, ...], Field(max_length=200)] = ()
    rest: Text = ""


class Mistake(Frozen):
    """What is wrong, and where: the key in study.toml, or nothing for the whole."""

    key: str
    sentence: str


def study_of(form: StudyForm) -> Study:
    """The study that the form says. Raises `Problem` in the study's own words."""
    data = _parsed(form.rest)
    for section in sections():
        _put(data, section.questions, form.entries)
    kinds = encoder_questions()
    _at(data, "encoder")["kind"] = form.encoder
    if form.encoder in kinds:
        _put(data, kinds[form.encoder].questions, form.entries)
    for task in form.tasks:
        name = task.name.strip()
        table = _at(data, "tasks", name)
        if "kind" in table:
            raise Problem("the form", f"tasks.{name}: there are two tasks of this name", remedy="rename one")
        table["kind"] = task.kind
        if task.kind in task_questions():
            _put(table, task_questions()[task.kind].questions, task.entries)
    return validated(data, Study, where="the form")


def study_in(text: str) -> Study:
    """The study of a study.toml that was pasted. Raises `Problem`."""
    return validated(_parsed(text), Study, where="the text")


def form_of(study: Study) -> StudyForm:
    """A form that says this study: `study_of` returns it again."""
    data = study.model_dump(mode="json", exclude_none=True)
    entries: dict[str, str] = {}
    for section in sections():
        entries |= _taken(data, section.questions)
    entries |= _taken(data, encoder_questions()[study.encoder.kind].questions)
    data["encoder"].pop("kind")
    tasks = []
    for name, table in data["tasks"].items():
        kind = table.pop("kind")
        tasks.append(TaskForm(name=name, kind=kind, entries=_taken(table, task_questions()[kind].questions)))
    return StudyForm(entries=entries, encoder=study.encoder.kind, tasks=tuple(tasks), rest=tomli_w.dumps(_filled(data)))


def mistakes(problem: Problem) -> tuple[Mistake, ...]:
    """The lines of a problem, each at its key."""
    found = []
    for line in problem.found.split("\n  "):
        match = LINE.match(line)
        if match is None:
            found.append(Mistake(key="", sentence=line))
            continue
        key = match["key"] + (f".{match['inner']}" if match["inner"] else "")
        found.append(Mistake(key=key, sentence=match["sentence"]))
    return tuple(found)


def _parsed(text: str) -> dict[str, Any]:
    if DEEP.search(text):
        raise Problem("the text", "holds a key of more than 20 parts", remedy="write no tables so deep in others")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem("the text", f"is not valid TOML: {error}", remedy="mend the line that is named") from None


def _put(data: dict[str, Any], questions: Iterable[Question], entries: Mapping[str, str]) -> None:
    for question in questions:
        text = entries.get(question.key, "")
        if text.strip():
            *path, last = question.key.split(".")
            _at(data, *path)[last] = as_value(question.kind, text)


def _taken(data: dict[str, Any], questions: Iterable[Question]) -> dict[str, str]:
    """The lines of what has one; it is taken out of the data."""
    found = {}
    for question in questions:
        *path, last = question.key.split(".")
        table = _at(data, *path)
        if last not in table:
            continue
        text = as_text(table[last])
        if text.strip() and as_value(question.kind, text) == table[last]:
            found[question.key] = text
            del table[last]
        elif question.blank and not table[last]:
            del table[last]
    return found


def _at(data: dict[str, Any], *path: str) -> dict[str, Any]:
    for name in path:
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            raise Problem("the text", f"{name}: is no table", remedy=f"write [{name}] for its keys")
    return data


def _filled(data: dict[str, Any]) -> dict[str, Any]:
    """Without tables and lists that say nothing."""
    inner = {key: _filled(value) if isinstance(value, dict) else value for key, value in data.items()}
    return {key: value for key, value in inner.items() if value not in ({}, [])}
