"""How branches hang on the encoder and on one another: one graph with three kinds of edges, and four presets of it.

`share` (encoder -> branch) is always there. A `cascade` feeds what one task says into another task's branch; an
`interaction` lets the branches of several tasks exchange features, stage by stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from polyward_shared.reading import Frozen
from polyward_shared.tasks import Detection, Landmark, Multilabel, Regression, Survival, Synthesis, Task, TaskName

Gives = Literal["probability", "logits", "argmax", "features"]
Unit = Literal["cross_stitch", "nddr", "attention", "distillation"]


class Cascade(Frozen):
    """What `source` says is an input of `target`. Into an image-level branch, a map of chances weighs the encoder's
    features (masked pooling) and any other map becomes its spatial mean; everything else is concatenated to the
    target's features. Where a site has no such source, every class counts as equally likely."""

    source: TaskName
    target: TaskName
    gives: Gives = "probability"
    detach: bool = False  # stop the target's gradient before the source
    teacher_forcing: float = Field(default=0.0, ge=0, le=1)  # share of labelled cases that train on the true label
    passes: int = Field(default=0, ge=0, le=50)  # Monte-Carlo dropout passes of the source; adds a map of uncertainty


def _distinct(tasks: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(tasks)) != len(tasks):
        raise ValueError("expected each task once")
    return tasks


class Interaction(Frozen):
    """The branches of `tasks` exchange features at each stage of their decoders, or at the last alone."""

    tasks: Annotated[tuple[TaskName, ...], Field(min_length=2), AfterValidator(_distinct)]
    unit: Unit = "cross_stitch"
    stages: Literal["all", "last"] = "all"


class Topology(Frozen):
    """A preset, and edges that replace those which the preset would choose."""

    kind: Literal["parallel", "cascaded", "interacted", "hybrid"] = "parallel"
    unit: Unit = "cross_stitch"  # of the preset's interaction
    cascade: tuple[Cascade, ...] = ()
    interact: tuple[Interaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """The edges of a topology over the tasks of one study."""

    cascades: tuple[Cascade, ...] = ()
    interactions: tuple[Interaction, ...] = ()


def graph_of(topology: Topology, tasks: Mapping[str, Task]) -> Graph:
    """The preset written out. Raises ValueError for edges that the preset excludes, unknown tasks and cycles."""
    wants_cascade = topology.kind in {"cascaded", "hybrid"}
    wants_interaction = topology.kind in {"interacted", "hybrid"}
    for wanted, edges, key in (
        (wants_cascade, topology.cascade, "cascade"),
        (wants_interaction, topology.interact, "interact"),
    ):
        if edges and not wanted:
            raise ValueError(f"topology.{key}: a topology of the kind {topology.kind!r} has no such edges")
    if topology.kind != "parallel" and len(tasks) < 2:
        raise ValueError(f"topology.kind: found {topology.kind!r}; expected parallel for a study of one task")
    cascades = topology.cascade or (_usual_cascades(tasks) if wants_cascade else ())
    interactions = topology.interact or (_usual_interactions(topology, tasks) if wants_interaction else ())
    _check(cascades, interactions, tasks)
    return Graph(cascades, interactions)


def order_of(cascades: Iterable[Cascade], tasks: Iterable[str]) -> tuple[str, ...]:
    """The tasks with every source before its targets, else as given. Raises ValueError for a cycle."""
    names = list(tasks)
    sorter: TopologicalSorter[str] = TopologicalSorter({name: set() for name in names})
    for edge in cascades:
        sorter.add(edge.target, edge.source)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"topology.cascade: these tasks feed one another in a circle: {error.args[1]}") from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: names.index(name) if name in names else -1)
        order += ready
        sorter.done(*ready)
    return tuple(name for name in order if name in names)


def _usual_cascades(tasks: Mapping[str, Task]) -> tuple[Cascade, ...]:
    """From the first map to every image-level task, and from a synthesis only where no other map is: an image is no
    mask to pool under. With one level alone, each task feeds the next."""
    maps = [name for name, task in tasks.items() if task.level == "map"]
    images = [name for name, task in tasks.items() if task.level == "image"]
    if maps and images:
        source = next((name for name in maps if not isinstance(tasks[name], Synthesis)), maps[0])
        return tuple(Cascade(source=source, target=name) for name in images)
    names = list(tasks)
    return tuple(Cascade(source=a, target=b) for a, b in pairwise(names))


def _usual_interactions(topology: Topology, tasks: Mapping[str, Task]) -> tuple[Interaction, ...]:
    """Between all tasks; in a hybrid between the maps, if there are several."""
    maps = [name for name, task in tasks.items() if task.level == "map"]
    names = maps if topology.kind == "hybrid" and len(maps) > 1 else list(tasks)
    return (Interaction(tasks=tuple(names), unit=topology.unit),)


def _check(cascades: tuple[Cascade, ...], interactions: tuple[Interaction, ...], tasks: Mapping[str, Task]) -> None:
    for edge in cascades:
        for name in (edge.source, edge.target):
            if name not in tasks:
                raise ValueError(f"topology.cascade: found {name!r}; expected tasks of the study: {', '.join(tasks)}")
    if len({(edge.source, edge.target) for edge in cascades}) != len(cascades):
        raise ValueError("topology.cascade: two edges join the same tasks")
    for edge in cascades:
        _check_options(edge, tasks[edge.source])
    order_of(cascades, tasks)
    held: set[str] = set()
    for group in interactions:
        if group.unit == "attention" and group.stages == "last":
            raise ValueError(
                "topology.interact.stages: found 'last' with the unit 'attention', whose gates stand at every stage; "
                "expected 'all'"
            )
        for name in group.tasks:
            if name not in tasks:
                raise ValueError(f"topology.interact: found {name!r}; expected tasks of the study: {', '.join(tasks)}")
            if name in held:
                raise ValueError(f"topology.interact: {name!r} is in two interactions; expected one at most")
            held.add(name)
    for edge in cascades:
        if edge.passes and edge.source in held:
            raise ValueError(
                f"topology.cascade: {edge.source!r} is passed with uncertainty and takes part in an interaction; "
                "its branch cannot be run alone many times"
            )


def _check_options(edge: Cascade, source: Task) -> None:
    """Raises ValueError for an option that could not run, or that would change nothing."""
    chances = edge.gives in {"probability", "argmax"}
    if edge.passes and not chances:
        raise ValueError(
            f"topology.cascade.passes: found {edge.passes} for {edge.source!r} with gives = {edge.gives!r}; expected "
            "gives = 'probability' or 'argmax', of which passes make a mean, or passes = 0"
        )
    if edge.teacher_forcing and not chances:
        raise ValueError(
            f"topology.cascade.teacher_forcing: found {edge.teacher_forcing} for {edge.source!r} with gives = "
            f"{edge.gives!r}; expected gives = 'probability' or 'argmax', in whose form a label can stand, or "
            "teacher_forcing = 0"
        )
    if edge.teacher_forcing and isinstance(source, Regression | Survival | Landmark | Detection):
        raise ValueError(
            f"topology.cascade.teacher_forcing: found {edge.teacher_forcing} for {edge.source!r}, a task of the kind "
            f"{source.kind!r}, whose label has not the form of its answer; expected teacher_forcing = 0"
        )
    if edge.gives == "argmax" and not _has_classes(source):
        raise ValueError(
            f"topology.cascade.gives: found 'argmax' for {edge.source!r}, a task of the kind {source.kind!r}, which "
            "has no classes to choose among; expected 'probability', 'logits' or 'features'"
        )


def _has_classes(task: Task) -> bool:
    """Whether the largest of what the task says can be one or another; a survival curve is highest at its start."""
    match task:
        case Regression() | Survival():
            return False
        case Landmark():
            return len(task.points) > 1
        case Detection() | Multilabel():
            return len(task.classes) > 1
        case Synthesis():
            return task.channels > 1
        case _:
            return True
