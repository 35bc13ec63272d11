"""What a study would have leave each site, before anybody approves it."""

from __future__ import annotations

import sqlalchemy as sa

from polyward_server.ledger import Ledger
from polyward_server.registry import Registry
from polyward_server.tables import members
from polyward_shared.codec import BYTES_PER_VALUE
from polyward_shared.encoders import BasicUNet, ResNet, SegRes
from polyward_shared.messages import Kind, stages_of
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen
from polyward_shared.schema import BRANCHES, ENCODER, PRECISION, STATISTICS, Schema
from polyward_shared.states import read_stamp
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

SEED = "seed"
ABOUT = {
    ENCODER: "the shared encoder",
    PRECISION: "how sure the site is of each value of the encoder",
    STATISTICS: "means and squares that its batch norms have seen",
}


class GroupRow(Frozen):
    """Arrays that cross in every round. None where nobody has built such a model here yet."""

    group: str
    about: str
    arrays: int | None
    values: int | None
    bytes_round: int | None  # from one site in one round
    bytes_study: int | None  # in all rounds


class FigureRow(Frozen):
    """Figures of one task, each with the number of cases behind it."""

    task: str
    kind: str
    names: tuple[str, ...]
    splits: tuple[str, ...]
    stages: tuple[str, ...]  # in a round
    at_the_end: tuple[str, ...]
    intervals: bool


class Proposal(Frozen):
    """The preview of a study."""

    digest: str
    id: str
    rounds: int
    codec: str
    known_from: str  # where the numbers of arrays come from; empty where they are not known
    first: tuple[str, ...]  # groups of which one site sends the first state, once
    rows: tuple[GroupRow, ...]
    figures: tuple[FigureRow, ...]
    counts: tuple[str, ...]  # numbers besides, in words
    never: tuple[str, ...]  # what stays, in words


def read_proposal(ledger: Ledger, registry: Registry, study: Study) -> Proposal:
    """The preview; the shapes of arrays are those of an earlier study or a registered encoder, since no model is
    built here."""
    known, known_from = _known(ledger, registry, study)
    groups = sorted(study.groups(study.tasks), key=lambda name: (name != ENCODER, name))
    training, end = stages_of(Kind.TRAIN, study.personal), stages_of(Kind.FINISH, study.personal)
    return Proposal(
        digest=study.digest(),
        id=study.id,
        rounds=study.rounds,
        codec=study.wire.codec,
        known_from=known_from if ENCODER in known else "",
        first=tuple(name for name in groups if name != ENCODER or study.encoder.start == SEED),
        rows=tuple(_group(study, name, known.get(name)) for name in groups),
        figures=tuple(
            FigureRow(
                task=name,
                kind=task.kind,
                names=METRICS[task.kind],
                splits=study.evaluation.splits,
                stages=tuple(sorted(training)),
                at_the_end=tuple(sorted(end)),
                intervals=study.evaluation.resamples > 0,
            )
            for name, task in sorted(study.tasks.items())
        ),
        counts=_counts(study),
        never=_never(study),
    )


def _group(study: Study, name: str, schema: Schema | None) -> GroupRow:
    size = schema.size * BYTES_PER_VALUE[study.wire.codec] if schema else None
    task = name.removeprefix(f"{BRANCHES}.")
    return GroupRow(
        group=name,
        about=ABOUT.get(name, f"the branch of the task {task}, of sites that have it"),
        arrays=len(schema.arrays) if schema else None,
        values=schema.size if schema else None,
        bytes_round=size,
        bytes_study=size * study.rounds if size is not None else None,
    )


def _known(ledger: Ledger, registry: Registry, study: Study) -> tuple[dict[str, Schema], str]:
    """The schema of each group that is known here, and from where."""
    found: dict[str, Schema] = {}
    source = ""
    with ledger.engine.connect() as db:
        told = db.execute(sa.select(members.c.study, members.c.schema).where(members.c.agrees).distinct()).all()
    for digest in dict.fromkeys(row.study for row in told):
        earlier = ledger.study(digest)
        if _builds(earlier) != _builds(study):
            continue
        for row in told:
            if row.study == digest:
                schema = _schema(row.schema)
                found |= {name: schema.group(name) for name in schema.groups if _same(earlier, study, name)}
                source = f"as in the study {earlier.id}"
    start = study.encoder.start
    if ENCODER not in found and start != SEED and registry.path(start).is_file():
        try:
            schema = _schema(read_stamp(registry.path(start)).get("schema", ""))
        except Problem:
            schema = Schema(())
        if ENCODER in schema.groups:
            found[ENCODER], source = schema.group(ENCODER), "as the registered encoder"
    return found, source


def _builds(study: Study) -> object:
    """All that the shapes of the encoder's shared arrays depend on."""
    encoder = study.encoder.model_dump(exclude={"start"})
    convolutional = isinstance(study.encoder, SegRes | BasicUNet | ResNet)
    seen = len(study.image.seen) if convolutional else study.image.seen
    sharing = study.sharing.model_dump(include={"norm_affine", "norm_statistics"})
    return encoder, study.image.channels, seen, sharing


def _same(earlier: Study, study: Study, group: str) -> bool:
    """Whether the group has the same arrays in both, given that the encoder has."""
    task = group.removeprefix(f"{BRANCHES}.")
    if task == group:
        return True
    parts = (
        (each.tasks.get(task), each.branches, each.topology, each.side, each.image.seen) for each in (earlier, study)
    )
    return len({repr(part) for part in parts}) == 1


def _schema(text: str) -> Schema:
    try:
        return Schema.from_json(text)
    except ValueError:
        return Schema(())


def _counts(study: Study) -> tuple[str, ...]:
    return (
        "how many training images it has, and how many labels of each task",
        "seconds and optimiser steps of each round, and which phase its work is in",
        "names and versions of its software, and how busy its processors, memory, disk and GPUs are",
        "for each figure the number of cases behind it",
    )


def _never(study: Study) -> tuple[str, ...]:
    branches = () if study.groups(study.tasks) - {ENCODER, PRECISION, STATISTICS} else ("its branches",)
    private = ("its private encoder",) if study.sharing.private_encoder else ()
    return (
        "images, masks and labels",
        "names, numbers and dates of patients",
        "paths and file names",
        "predictions for single cases",
        "means and spreads of its targets",
        *branches,
        *private,
    )
