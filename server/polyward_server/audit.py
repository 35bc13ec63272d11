"""The record of events: appended, never changed, each bound to the one before by a hash.

An event is written in the transaction of what it tells of. All writers take the chain's head first, so that numbers
have no gaps and two processes never continue the same line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from polyward_server.records import Event, Noted
from polyward_server.tables import events, heads
from polyward_shared.chain import GENESIS
from polyward_shared.problems import Problem

EVENTS = "events"  # the chain's name


def append(db: sa.Connection, event: Event) -> Noted:
    """Writes the event as the next one, within the transaction of `db`."""
    if not db.execute(heads.update().where(heads.c.chain == EVENTS).values(number=heads.c.number + 1)).rowcount:
        db.execute(heads.insert().values(chain=EVENTS, number=1, hash=GENESIS))
    head = db.execute(sa.select(heads).where(heads.c.chain == EVENTS)).one()
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    noted = Noted(head.number, at, event, _hash(head.hash, head.number, at, event))
    db.execute(events.insert().values(id=noted.number, at=at, hash=noted.hash, **asdict(event)))
    db.execute(heads.update().where(heads.c.chain == EVENTS).values(hash=noted.hash))
    return noted


def noted(db: sa.Connection, query: sa.Select[Any]) -> Iterator[Noted]:
    """The events that the query over `events` finds."""
    for row in db.execute(query):
        yield Noted(row.id, row.at, Event(row.study, row.round, row.site, row.what, row.detail, row.actor), row.hash)


def verify(db: sa.Connection) -> tuple[int, str]:
    """How many events there are and the last one's hash. Raises `Problem` at the first that breaks the chain."""
    number, last = 0, GENESIS
    for each in noted(db, sa.select(events).order_by(events.c.id)):
        if (each.number, each.hash) != (number + 1, _hash(last, number + 1, each.at, each.event)):
            raise Problem(
                f"event {each.number} of the ledger",
                "the chain is broken: this event or the one before it was changed, removed or moved",
                remedy="keep the ledger as it is and compare it with a backup",
            )
        number, last = each.number, each.hash
    head = db.execute(sa.select(heads).where(heads.c.chain == EVENTS)).first()
    if head is not None and (head.number, head.hash) != (number, last):
        raise Problem(
            "the ledger's events",
            f"end at number {number}, before the last one that was written ({head.number})",
            remedy="keep the ledger as it is and compare it with a backup",
        )
    return number, last


def _hash(before: str, number: int, at: str, event: Event) -> str:
    told = [before, number, at, *asdict(event).values()]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()
