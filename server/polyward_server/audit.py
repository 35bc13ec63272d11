"""The record of events: appended, never changed, each bound to the one before by a hash.

An event is written in the transaction of what it tells of. All writers take the chain's head first, so that numbers
have no gaps and two processes never continue the same line; the others wait for the head until that transaction ends.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from polyward_server.database import EVENTS
from polyward_server.records import Event, Noted
from polyward_server.tables import events, heads
from polyward_shared.chain import GENESIS
from polyward_shared.problems import Problem

HEAD = heads.c.chain == EVENTS
AT_ONCE = 1000  # events that a check holds in memory
COMPARE = "keep the ledger as it is and compare it with a backup"


def take_turn(db: sa.Connection) -> None:
    """Waits until no other transaction writes history; from here to its end this one alone does.

    What is read after it is what the others have committed.
    """
    if not db.execute(heads.update().where(HEAD).values(number=heads.c.number)).rowcount:
        raise Problem("the ledger's events", "have no head: somebody removed it", remedy=COMPARE)


def append(db: sa.Connection, event: Event) -> Noted:
    """Writes the event as the next one, within the transaction of `db`."""
    take_turn(db)
    head = db.execute(sa.select(heads).where(HEAD)).one()
    number, at = head.number + 1, datetime.now(UTC).isoformat(timespec="milliseconds")
    noted = Noted(number, at, event, _hash(head.hash, number, at, event))
    db.execute(events.insert().values(id=number, at=at, hash=noted.hash, **asdict(event)))
    db.execute(heads.update().where(HEAD).values(number=number, hash=noted.hash))
    return noted


def noted(db: sa.Connection, query: sa.Select[Any]) -> Iterator[Noted]:
    """The events that the query over `events` finds."""
    for row in db.execute(query):
        yield Noted(row.id, row.at, Event(row.study, row.round, row.site, row.what, row.detail, row.actor), row.hash)


def verify(db: sa.Connection, since: tuple[int, str] = (0, GENESIS)) -> tuple[int, str]:
    """How many events there are and the last one's hash. Raises `Problem` at the first that breaks the chain.

    `since` is what an earlier look returned: the events up to there are taken as they were found then.

    The hub may write meanwhile: what comes after the head that is read first is left for the next time.
    """
    head = db.execute(sa.select(heads).where(HEAD)).first()
    number, last = since
    while read := _following(db, number, head.number if head else None):
        for each in read:
            if (each.number, each.hash) != (number + 1, _hash(last, number + 1, each.at, each.event)):
                raise Problem(
                    f"event {each.number} of the ledger",
                    "the chain is broken: this event or the one before it was changed, removed or moved",
                    remedy=COMPARE,
                )
            number, last = each.number, each.hash
    if head is None:
        raise Problem("the ledger's events", "have no head: somebody removed it", remedy=COMPARE)
    if (head.number, head.hash) != (number, last):
        raise Problem(
            "the ledger's events",
            f"end at number {number}, and the last one that was written is {head.number}",
            remedy=COMPARE,
        )
    newest = db.execute(sa.select(sa.func.max(events.c.id))).scalar() or 0
    if newest > db.execute(sa.select(heads.c.number).where(HEAD)).scalar_one():
        raise Problem(f"event {newest} of the ledger", "was not written by a hub: no head counts it", remedy=COMPARE)
    return number, last


def place_of(db: sa.Connection, head: str) -> int:
    """How many events there were when this was the chain's head, in a chain that was verified.

    Who changes a database can cut off its last events and set the head back: only a head that was kept elsewhere tells.
    Raises `Problem` if the chain does not go through it.
    """
    if head == GENESIS:
        return 0
    number: int | None = db.execute(sa.select(events.c.id).where(events.c.hash == head)).scalar()
    if number is None:
        raise Problem(
            f"the head {head[:12]}",
            "is none that this chain ever had: events were cut off or rewritten, or it is another hub's",
            remedy=COMPARE,
        )
    return number


def _following(db: sa.Connection, number: int, last: int | None) -> list[Noted]:
    """The next events after this number, some at a time, up to the last that counts."""
    query = sa.select(events).where(events.c.id > number).order_by(events.c.id).limit(AT_ONCE)
    return list(noted(db, query if last is None else query.where(events.c.id <= last)))


def _hash(before: str, number: int, at: str, event: Event) -> str:
    told = [before, number, at, *asdict(event).values()]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()
