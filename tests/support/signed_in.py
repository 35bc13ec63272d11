"""A person who is signed in to a dashboard already, for tests that are not about signing in."""

from __future__ import annotations

import time

import sqlalchemy as sa

from polyward_server.ledger import Ledger
from polyward_server.people import sessions
from polyward_server.tables import users

COOKIE = "__Host-session"


def signed_in(ledger: Ledger, role: str, name: str = "") -> dict[str, str]:
    """The cookie of a person with this role, who is made where there is none."""
    name = name or f"test-{role}"
    with ledger.engine.begin() as db:
        if db.execute(sa.select(users).where(users.c.name == name)).first() is None:
            db.execute(users.insert().values(name=name, role=role, made="2026-11-01T00:00:00.000+00:00"))
        return {COOKIE: sessions.begin(db, name, time.time())}
