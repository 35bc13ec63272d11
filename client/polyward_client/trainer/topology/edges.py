"""A study's graph -> what of it exists at one site, and what each branch must bring for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyward_client.trainer.branches import Joints
from polyward_client.trainer.encoders import Pyramid
from polyward_client.trainer.tasks import Kinds, kind_of
from polyward_shared.study import Study
from polyward_shared.tasks import Synthesis, Task
from polyward_shared.topologies import Cascade, Graph, Interaction, Topology, graph_of, order_of


@dataclass(frozen=True, slots=True)
class SiteGraph:
    """The edges at one site: cascades into its tasks (also from sources that it lacks), interactions among them."""

    order: tuple[str, ...]  # sources before targets
    into: dict[str, tuple[Cascade, ...]]
    interactions: tuple[Interaction, ...]

    def needed(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """These tasks and all that they rest on, in order."""
        found = set(wanted)
        while True:
            more = {edge.source for task in found for edge in self.into.get(task, ()) if edge.source in self.order}
            for group in self.interactions:
                if found & set(group.tasks):
                    more |= set(group.tasks)
            if more <= found:
                return tuple(task for task in self.order if task in found)
            found |= more


def site_graph(study: Study, tasks: Sequence[str], topology: Topology | None = None) -> SiteGraph:
    """The graph over this site's tasks; `topology` is the site's own choice, if it has one."""
    graph: Graph = graph_of(topology or study.topology, study.tasks)
    into = {task: tuple(edge for edge in graph.cascades if edge.target == task) for task in tasks}
    here = [
        group.model_copy(update={"tasks": tuple(task for task in group.tasks if task in tasks)})
        for group in graph.interactions
    ]
    return SiteGraph(
        order=order_of(graph.cascades, tasks),
        into={task: edges for task, edges in into.items() if edges},
        interactions=tuple(
            group for group in here if len(group.tasks) > 1 or (group.unit == "attention" and group.tasks)
        ),
    )


def joints_of(study: Study, task: str, graph: SiteGraph, kinds: Kinds, pyramid: Pyramid) -> Joints:
    """What the edges need of this task's branch."""
    vectors = sum(study.side[name].width for name in study.tasks[task].side)
    maps = 0
    for edge in graph.into.get(task, ()):
        width = evidence_width(study, edge, pyramid)
        source_is_map = study.tasks[edge.source].level == "map"
        if kinds[task].level == "map" and source_is_map:
            maps += width
        elif source_is_map and is_mask(edge, study.tasks[edge.source]):
            vectors += width * pyramid.channels[0]  # masked pooling: a vector of features for each class
        else:
            vectors += width  # of a map its spatial mean
    group = next((group for group in graph.interactions if task in group.tasks), None)
    stages = len(pyramid.channels) - 1
    return Joints(
        vectors=vectors,
        maps=maps,
        exchanges=group is not None,
        gated=group is not None and group.unit == "attention",
        early=exchange_stages(group, stages) if group is not None and group.unit == "distillation" else (),
    )


def exchange_stages(group: Interaction, stages: int) -> tuple[int, ...]:
    return tuple(range(stages)) if group.stages == "all" else (stages - 1,)


def is_mask(edge: Cascade, source: Task) -> bool:
    """Whether features can be pooled under the map that the edge brings: logits and images may be negative."""
    return edge.gives in {"probability", "argmax"} and not isinstance(source, Synthesis)


def evidence_width(study: Study, edge: Cascade, pyramid: Pyramid) -> int:
    """Channels that an edge brings; with Monte-Carlo passes one more, of uncertainty."""
    kind = kind_of(study, edge.source)
    match edge.gives:
        case "features":
            width = pyramid.channels[0] if kind.level == "map" else study.branches.hidden
        case "logits":
            width = kind.channels
        case _:
            width = kind.evidence_width
    return width + (1 if edge.passes else 0)
