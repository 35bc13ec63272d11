"""The record of events as people see it: whether it is whole, what it says, and what sites have signed of theirs."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import sqlalchemy as sa
from pydantic import Field

from polyward_server import audit
from polyward_server.history import examined_checkpoints
from polyward_server.ledger import Ledger
from polyward_server.tables import events, studies
from polyward_shared.chain import GENESIS
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen

PAGE = 100  # events on one page


class StatementRow(Frozen):
    """A site's newest signed statement of its own record; every one that does not agree is shown too."""

    site: str
    lines: int  # of the site's record of everything sent
    hash: str  # of its last line
    at: datetime
    rounds: int  # that this hub had committed, as it answered
    statements: int  # of this site, all told
    problem: str  # empty where the signature, earlier statements and the hub's history agree


class Integrity(Frozen):
    """What was found when the record was last gone through."""

    problem: str = ""  # empty while the chain is whole and every statement agrees
    events: int = 0  # verified
    head: str = GENESIS  # hash of the last of them
    at: datetime | None = None  # of the last look; None before the first one ends
    whole_at: datetime | None = None  # of the last look at every event from the first on
    seconds: float = 0.0  # that the last whole look took
    rows: tuple[StatementRow, ...] = ()


class EventRow(Frozen):
    """One event."""

    number: int
    at: datetime
    study: str  # digest, or empty
    study_id: str
    round: int
    site: str
    what: str
    detail: str
    actor: str
    hash: str


class Wanted(Frozen):
    """Which events; empty means all."""

    study: str = Field(default="", max_length=64)  # digest
    site: str = Field(default="", max_length=64)
    what: str = Field(default="", max_length=24)
    actor: str = Field(default="", max_length=80)
    before: int = Field(default=0, ge=0, lt=2**63)  # numbers below this one; 0: the newest


class Events(Frozen):
    """One page of events, the newest first, and what one may ask for."""

    rows: tuple[EventRow, ...]
    older: int  # `before` of the next page; 0 where there is none
    studies: dict[str, str]  # digest -> id
    sites: tuple[str, ...]
    kinds: tuple[str, ...]
    actors: tuple[str, ...]


def look(ledger: Ledger, before: Integrity, *, whole: bool) -> Integrity:
    """Goes through the record: all of it and the sites' statements, or the events since the last look alone."""
    began = time.monotonic()
    start = (0, GENESIS) if whole else (before.events, before.head)
    now = datetime.now(UTC)
    try:
        with ledger.engine.connect() as db:
            count, head = audit.verify(db, start)
    except Problem as problem:
        return before.model_copy(update={"problem": f"{problem.where}: {problem.found}", "at": now})
    found = {"events": count, "head": head, "at": now}
    if not whole:
        return before.model_copy(update=found)
    rows = _statements(ledger)
    wrong = next((row.problem for row in rows if row.problem), "")
    seconds = time.monotonic() - began
    return Integrity(**found, problem=wrong, whole_at=now, seconds=seconds, rows=rows)


def read_events(ledger: Ledger, wanted: Wanted, *, most: int = PAGE) -> Events:
    """Reads a page of them from the ledger."""
    query = sa.select(events, studies.c.id.label("study_id")).join(
        studies, studies.c.digest == events.c.study, isouter=True
    )
    for column in ("study", "site", "what", "actor"):
        if value := getattr(wanted, column):
            query = query.where(events.c[column] == value)
    if wanted.before:
        query = query.where(events.c.id < wanted.before)
    with ledger.engine.connect() as db:
        found = db.execute(query.order_by(events.c.id.desc()).limit(most + 1)).all()
        names = {row.digest: row.id for row in db.execute(sa.select(studies.c.digest, studies.c.id))}
        sites, kinds, actors = (
            tuple(value for value in db.execute(sa.select(column).distinct().order_by(column)).scalars() if value)
            for column in (events.c.site, events.c.what, events.c.actor)
        )
    return Events(
        rows=tuple(_row(row) for row in found[:most]),
        older=found[most - 1].id if len(found) > most else 0,
        studies=names,
        sites=sites,
        kinds=kinds,
        actors=actors,
    )


def _row(row: sa.Row[tuple[object, ...]]) -> EventRow:
    return EventRow(
        number=row.id,
        at=datetime.fromisoformat(row.at),
        study=row.study,
        study_id=row.study_id or "",
        round=row.round,
        site=row.site,
        what=row.what,
        detail=row.detail,
        actor=row.actor,
        hash=row.hash,
    )


def _statements(ledger: Ledger) -> tuple[StatementRow, ...]:
    counts: dict[str, int] = {}
    newest: dict[str, StatementRow] = {}
    wrong = []
    for receipt, problem in examined_checkpoints(ledger):
        counts[receipt.site] = counts.get(receipt.site, 0) + 1
        row = StatementRow(
            site=receipt.site,
            lines=receipt.count,
            hash=receipt.hash,
            at=datetime.fromisoformat(receipt.at),
            rounds=receipt.rounds,
            statements=counts[receipt.site],
            problem=f"{problem.where} {problem.found}" if problem else "",
        )
        if problem:
            wrong.append(row)
        newest[receipt.site] = row
    return (*wrong, *(row for row in newest.values() if not row.problem))
