"""What has left every site for a study, what may leave it, and what was refused at the way out."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from polyward_server.views.picture import Picture
from polyward_shared.codec import BYTES_PER_VALUE
from polyward_shared.messages import Kind, stages_of
from polyward_shared.problems import Code
from polyward_shared.reading import Frozen
from polyward_shared.schema import Schema
from polyward_shared.tasks import METRICS

AT_THE_EGRESS = frozenset({Code.EGRESS_SCHEMA, Code.EGRESS_NOT_FINITE, Code.EGRESS_NORM, Code.EGRESS_METRIC})
NO_PRIVACY_BUDGET = (
    "None. No noise is added to updates or figures in this study and no epsilon is promised, so none is spent: what "
    "protects patients is that only the arrays and figures named here leave, and no image, label or case does."
)


class SiteFlow(Frozen):
    """One site: what it sends for a round, and what has crossed so far."""

    site: str
    arrays: int
    values: int  # in these arrays
    round_bytes: int  # of one update in the study's codec
    rounds: int  # that took its update
    bytes_up: int  # in all of them
    bytes_down: int
    figures: int  # names of figures that it may send, over all its tasks
    refused: int  # times that its own gate, or the hub, refused what was to leave


class ArrayGroup(Frozen):
    """Arrays that cross together: `encoder`, or a branch where branches cross."""

    group: str
    arrays: tuple[str, ...]  # name and shape
    values: int
    sites: int  # that share them


class TaskFigures(Frozen):
    """The only figures of a task that may leave a site, each with its number of cases."""

    task: str
    names: tuple[str, ...]


class Privacy(Frozen):
    """`rows` are the sites."""

    codec: str
    update_norm: float  # the bound of an update's length; beyond it nothing leaves
    clip: float  # times the usual length, to which the hub cuts an update; 0: none
    splits: tuple[str, ...]
    stages: tuple[str, ...]
    intervals: bool
    differential_privacy: str
    groups: tuple[ArrayGroup, ...]
    figures: tuple[TaskFigures, ...]
    rows: tuple[SiteFlow, ...]

    @property
    def total_up(self) -> int:
        return sum(row.bytes_up for row in self.rows)


def read_privacy(picture: Picture) -> Privacy:
    """Reads it from the study's picture."""
    study = picture.study
    stages = stages_of(Kind.TRAIN, study.personal) | stages_of(Kind.FINISH, study.personal)
    up, down, rounds = Counter[str](), Counter[str](), Counter[str]()
    for given in picture.given.values():
        for each in given:
            up[each.site] += each.bytes_up
            down[each.site] += each.bytes_down
            rounds[each.site] += 1
    refused = Counter(e.site for _, e in picture.told("refused", "misfit") if e.detail in AT_THE_EGRESS)
    figures = {task: METRICS[study.tasks[task].kind] for task in sorted(study.tasks)}
    sites = sorted(picture.members)
    return Privacy(
        codec=study.wire.codec,
        update_norm=study.wire.update_norm,
        clip=study.aggregation.clip,
        splits=study.evaluation.splits,
        stages=tuple(sorted(stages)),
        intervals=study.evaluation.resamples > 0,
        differential_privacy=NO_PRIVACY_BUDGET,
        groups=_groups(picture),
        figures=tuple(TaskFigures(task=task, names=names) for task, names in figures.items()),
        rows=tuple(
            SiteFlow(
                site=site,
                arrays=len(schema.arrays),
                values=schema.size,
                round_bytes=schema.size * BYTES_PER_VALUE[study.wire.codec],
                rounds=rounds[site],
                bytes_up=up[site],
                bytes_down=down[site],
                figures=sum(len(names) for task, names in figures.items() if task in picture.members[site].counts),
                refused=refused[site],
            )
            for site in sites
            for schema in [_schema(picture.members[site].schema)]
        ),
    )


def _groups(picture: Picture) -> tuple[ArrayGroup, ...]:
    schemas = [_schema(member.schema) for member in picture.members.values()]
    found: dict[str, tuple[Schema, int]] = {}
    for schema in schemas:
        for group in schema.groups:
            known, sites = found.get(group, (schema, 0))
            found[group] = known, sites + 1
    return tuple(
        ArrayGroup(
            group=group,
            arrays=tuple(f"{a.name} {' x '.join(map(str, a.shape)) or '1'}" for a in schema.group(group).arrays),
            values=schema.group(group).size,
            sites=sites,
        )
        for group, (schema, sites) in found.items()
    )


@lru_cache(maxsize=64)
def _schema(text: str) -> Schema:
    """Sites of a study have the same few."""
    return Schema.from_json(text)
