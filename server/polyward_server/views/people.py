"""The people of the dashboard, and who of them is signed in now."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

from polyward_server.ledger import Ledger
from polyward_server.people import sessions, users
from polyward_shared.reading import Frozen


class PersonRow(Frozen):
    """One person. `way` is how they sign in: "password" or "provider"."""

    name: str
    role: str
    way: str
    made: str
    disabled: str
    sessions: int


class People(Frozen):
    """Everybody, by name."""

    rows: tuple[PersonRow, ...]


class SessionRow(Frozen):
    """One browser that is signed in."""

    name: str
    role: str
    began: datetime
    seen: datetime


class Sessions(Frozen):
    """Everybody who is signed in, by name."""

    rows: tuple[SessionRow, ...]


def read_people(ledger: Ledger) -> People:
    """Reads them from the ledger."""
    with ledger.engine.connect() as db:
        here = Counter(session.user for session in sessions.present(db, time.time()))
        known = users.everybody(db)
    return People(
        rows=tuple(
            PersonRow(
                name=each.name,
                role=each.role,
                way="provider" if each.subject else "password",
                made=each.made,
                disabled=each.disabled,
                sessions=here[each.name],
            )
            for each in known
        )
    )


def read_sessions(ledger: Ledger) -> Sessions:
    """Reads them from the ledger."""
    with ledger.engine.connect() as db:
        present = sessions.present(db, time.time())
    return Sessions(
        rows=tuple(
            SessionRow(name=each.user, role=each.role, began=_moment(each.began), seen=_moment(each.seen))
            for each in present
        )
    )


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
