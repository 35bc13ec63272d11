"""Edges that a study may have: presets written out, and options that would crash or do nothing refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from polyward_shared.tasks import Task
from polyward_shared.topologies import Topology, graph_of

KINDS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "binary"},
    "findings": {"kind": "multilabel", "classes": ["a", "b"]},
    "finding": {"kind": "multilabel", "classes": ["a"]},
    "age": {"kind": "regression"},
    "cox": {"kind": "survival", "times": [1, 2], "loss": "cox"},
    "hazard": {"kind": "survival", "times": [1, 2]},
    "mask": {"kind": "segmentation"},
    "vessel": {"kind": "centreline"},
    "point": {"kind": "landmark", "points": ["a"]},
    "points": {"kind": "landmark", "points": ["a", "b"]},
    "box": {"kind": "detection"},
    "boxes": {"kind": "detection", "classes": ["a", "b"]},
    "image": {"kind": "synthesis"},
    "colours": {"kind": "synthesis", "channels": 3},
    "grade": {"kind": "ordinal", "classes": ["1", "2"]},
}
TASKS: dict[str, Task] = {name: TypeAdapter(Task).validate_python(task) for name, task in KINDS.items()}


def cascade(source: str, **options: Any) -> None:
    edge = {"source": source, "target": "grade", **options}
    graph_of(Topology.model_validate({"kind": "cascaded", "cascade": [edge]}), TASKS)


def sources(*names: str) -> list[str]:
    """Of which task the preset pools under."""
    tasks = {name: TASKS[name] for name in names}
    return [edge.source for edge in graph_of(Topology(kind="cascaded"), tasks).cascades]


def test_the_preset_pools_under_a_synthesis_only_where_no_other_map_is() -> None:
    assert sources("image", "mask", "grade") == ["mask"]
    assert sources("vessel", "mask", "grade", "binary") == ["vessel", "vessel"]
    assert sources("image", "grade") == ["image"]


@pytest.mark.parametrize("gives", ["features", "logits"])
@pytest.mark.parametrize(("option", "value"), [("passes", 5), ("teacher_forcing", 0.5)])
def test_only_chances_have_passes_and_true_labels(gives: str, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"topology\.cascade\.{option}: found {value} .*'{gives}'; expected"):
        cascade("mask", gives=gives, **{option: value})
    cascade("mask", gives=gives)
    for chances in ("probability", "argmax"):
        cascade("mask", gives=chances, **{option: value})


@pytest.mark.parametrize("source", ["age", "cox", "hazard", "point", "box"])
def test_labels_in_another_form_than_the_answer_cannot_be_forced(source: str) -> None:
    with pytest.raises(ValueError, match=rf"teacher_forcing: found 0.5 for '{source}', a task of the kind .*expected"):
        cascade(source, teacher_forcing=0.5)
    cascade(source)


@pytest.mark.parametrize("source", ["age", "cox", "hazard", "finding", "point", "box", "image"])
def test_what_has_no_classes_has_no_largest_one(source: str) -> None:
    with pytest.raises(ValueError, match=rf"topology\.cascade\.gives: found 'argmax' for '{source}'.*expected"):
        cascade(source, gives="argmax")


@pytest.mark.parametrize("source", ["binary", "findings", "mask", "vessel", "points", "boxes", "colours"])
def test_what_has_classes_has_a_largest_one(source: str) -> None:
    cascade(source, gives="argmax")


def test_attention_acts_at_every_stage() -> None:
    edge = {"tasks": ["mask", "grade"], "unit": "attention"}
    graph_of(Topology.model_validate({"kind": "interacted", "interact": [edge]}), TASKS)
    last = Topology.model_validate({"kind": "interacted", "interact": [{**edge, "stages": "last"}]})
    with pytest.raises(ValueError, match=r"topology\.interact\.stages: found 'last' .*; expected 'all'"):
        graph_of(last, TASKS)
