"""The topologies that a study can be compared in.

`single` trains every task alone, in a federation of its owners: an encoder for that task and no other. The rest are
the presets of `polyward_shared.topologies`; edges that the study itself names are kept where the preset has such.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from polyward_client.site import Site
from polyward_deploy.comparison.plan import Part, Subject, Variation
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.study import Study
from polyward_shared.topologies import Topology
from polyward_shared.training import Personal

Arrangement = Literal["single", "parallel", "cascaded", "interacted", "hybrid"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
DESCRIBED: dict[Arrangement, str] = {
    "single": "every task alone among its owners, with an encoder of its own",
    "parallel": "one encoder, branches that know nothing of each other",
    "cascaded": "what one task says feeds another's branch",
    "interacted": "branches exchange features",
    "hybrid": "cascaded and interacted",
}
TOPOLOGIES = Subject(one="topology", many="topologies", reference="parallel", file="topologies")


def arrangements_of(text: str) -> tuple[Arrangement, ...]:
    """The topologies that a list with commas names, in their usual order. Raises `Problem`."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in ARRANGEMENTS]:
        raise Problem("--topologies", f"found {unknown[0]!r}", expected=f"some of {', '.join(ARRANGEMENTS)}")
    if not wanted:
        raise Problem("--topologies", "names nothing", expected=f"some of {', '.join(ARRANGEMENTS)}")
    return tuple(name for name in ARRANGEMENTS if name in wanted)


def variations(study: Study, sites: Sequence[Site], names: Sequence[Arrangement]) -> list[Variation]:
    """One for each topology. Raises `Problem` where the study's rules exclude one."""
    return [Variation(name=name, described=DESCRIBED[name], parts=_parts(study, sites, name)) for name in names]


def notes(study: Study, sites: Sequence[Site], names: Sequence[Arrangement]) -> list[str]:
    """What a reader of the figures must know of the topologies."""
    lonely = [task for task in study.tasks if sum(task in site.file.tasks for site in sites) == 1]
    if "single" in names and lonely:
        return [f"One site alone owns {', '.join(lonely)}: there single is no federation."]
    return []


def arranged(study: Study, arrangement: Arrangement) -> Study:
    """The study in one of the presets, without models beside the federated one. Raises `Problem` where the study's
    rules exclude it."""
    kind = "parallel" if arrangement == "single" else arrangement
    own = study.topology
    topology = Topology(
        kind=kind,
        unit=own.unit,
        cascade=own.cascade if kind in {"cascaded", "hybrid"} else (),
        interact=own.interact if kind in {"interacted", "hybrid"} else (),
    )
    text = study.model_dump(mode="json")
    text |= {"topology": topology.model_dump(mode="json"), "personal": Personal(alone=False).model_dump(mode="json")}
    return validated(text, Study, where=f"the study {study.id} as {arrangement}")


def narrowed(study: Study, task: str, owners: int) -> Study:
    """The study with this task and nothing else; no more sites are needed for a round than own it.

    Raises `Problem` where the study's rules need more.
    """
    rule = study.participation
    participation = rule.model_copy(
        update={
            "quorum": min(rule.quorum, owners),
            "task_quorum": {name: min(least, owners) for name, least in rule.task_quorum.items() if name == task},
        }
    )
    side = {name: study.side[name] for name in study.tasks[task].side}
    narrow = study.model_copy(
        update={
            "tasks": {task: study.tasks[task]},
            "side": side,
            "topology": Topology(),
            "participation": participation,
        }
    )
    return validated(narrow.model_dump(mode="json"), Study, where=f"the study {study.id} with {task} alone")


def _parts(study: Study, sites: Sequence[Site], arrangement: Arrangement) -> tuple[Part, ...]:
    varied = arranged(study, arrangement)
    if arrangement != "single":
        return (Part(study=varied, sites=tuple(sites)),)
    owned = {task: tuple(site for site in sites if task in site.file.tasks) for task in study.tasks}
    return tuple(
        Part(study=narrowed(varied, task, len(owners)), sites=owners, tasks=(task,), label=task)
        for task, owners in owned.items()
        if owners
    )
