"""What is different in a study from the version that a site approved before, key by key, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from polyward_client.approvals import Approval
from polyward_shared.schema import Schema
from polyward_shared.study import Study

MEANINGS = {
    "rounds": "how many times arrays leave",
    "seed": "where all chance comes from",
    "image": "the form in which images are seen here",
    "encoder": "the network whose weights leave",
    "tasks": "what is learnt from this site's labels",
    "side": "what besides the image is read from the manifest",
    "branches": "the form of the branches",
    "topology": "how tasks build on each other here",
    "balancer": "how the losses of tasks combine here",
    "training": "how this site trains",
    "personal": "models that are trained beside the federated one; their arrays stay here",
    "sharing": "which arrays leave besides the encoder's",
    "aggregation": "how the hub combines what sites send",
    "participation": "how many sites a round needs, and how long it waits",
    "evaluation": "which figures leave, and how often",
    "wire": "the form of what leaves, and how far an update may go",
}
SHOWN = 5  # names of arrays in one sentence


def changes(before: Approval, now: Approval) -> Iterator[str]:
    """A line for each key of the study that differs, for the tasks of this site and for the arrays that leave."""
    yield from study_changes(before.study, now.study)
    if gone := [task for task in before.tasks if task not in now.tasks]:
        yield f"no longer trained here: {', '.join(gone)}"
    if new := [task for task in now.tasks if task not in before.tasks]:
        yield f"now trained here: {', '.join(new)}"
    yield from array_changes(before.schema, now.schema)


def study_changes(before: Study, now: Study) -> Iterator[str]:
    """A line for each key of which the values differ, with what the key is about."""
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    for task in dict.fromkeys((*old["tasks"], *new["tasks"])):
        if (task in old["tasks"]) != (task in new["tasks"]):
            is_new = task in new["tasks"]
            kind = (new if is_new else old)["tasks"][task]["kind"]
            yield f"task {task} ({kind}): {'is new' if is_new else 'is gone'}"
            (new if is_new else old)["tasks"].pop(task)
    olds, news = dict(_leaves(old)), dict(_leaves(new))
    for key in dict.fromkeys((*olds, *news)):
        if key not in olds:
            yield f"{key}: is new, {news[key]!r} ({_meaning(key)})"
        elif key not in news:
            yield f"{key}: is gone, was {olds[key]!r} ({_meaning(key)})"
        elif olds[key] != news[key]:
            yield f"{key}: was {olds[key]!r}, is {news[key]!r} ({_meaning(key)})"


def array_changes(before: Schema, now: Schema) -> Iterator[str]:
    """What is different in the arrays that leave, or that nothing is."""
    old = {spec.name: spec.shape for spec in before.arrays}
    new = {spec.name: spec.shape for spec in now.arrays}
    if old == new:
        yield f"the same {len(new)} arrays leave as before"
    for what, names in (
        ("arrays leave that did not before", [name for name in new if name not in old]),
        ("arrays leave no longer", [name for name in old if name not in new]),
        ("arrays leave in another shape", [name for name in new if name in old and new[name] != old[name]]),
    ):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _meaning(key: str) -> str:
    return MEANINGS.get(key.partition(".")[0], "")
