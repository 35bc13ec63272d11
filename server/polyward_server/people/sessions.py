"""Who is signed in. The browser holds 256 random bits; here lies only their hash, so what is read here opens nothing.

A session ends when nothing was heard of its browser for half an hour, and after half a day in any case.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from polyward_server.tables import sessions, users

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
NOTED_SECONDS = 60  # presence is written down so often, not at every request


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in that is good now. `token` is what changing requests must bear; times are Unix seconds."""

    user: str
    role: str
    token: str
    began: float
    seen: float


def begin(db: sa.Connection, user: str, now: float) -> str:
    """A new session of the person; its cookie. Those that have ended meanwhile are swept."""
    db.execute(sessions.delete().where(~_good(now)))
    cookie = secrets.token_urlsafe(32)
    db.execute(
        sessions.insert().values(id=hashed(cookie), user=user, token=secrets.token_urlsafe(32), began=now, seen=now)
    )
    return cookie


def find(engine: sa.Engine, cookie: str, now: float) -> Session | None:
    """The session of this cookie, if it is still good; writes down that it was seen."""
    if not cookie:
        return None
    where = (sessions.c.id == hashed(cookie)) & _good(now) & (users.c.disabled == "")
    with engine.connect() as db:
        row = db.execute(_everything.where(where)).first()
    if row is None:
        return None
    if now - row.seen > NOTED_SECONDS:
        with contextlib.suppress(sa.exc.OperationalError), engine.begin() as db:  # a busy ledger puts nobody out
            db.execute(sessions.update().where(sessions.c.id == hashed(cookie)).values(seen=now))
    return Session(*row)


def end(db: sa.Connection, cookie: str) -> None:
    """Ends the session of this cookie, if there is one."""
    db.execute(sessions.delete().where(sessions.c.id == hashed(cookie)))


def end_all(db: sa.Connection, user: str) -> int:
    """Ends all sessions of a person; how many there were."""
    return db.execute(sessions.delete().where(sessions.c.user == user)).rowcount


def present(db: sa.Connection, now: float) -> list[Session]:
    """All good sessions, by person and beginning."""
    where = _good(now) & (users.c.disabled == "")
    return [Session(*row) for row in db.execute(_everything.where(where).order_by(users.c.name, sessions.c.began))]


def hashed(cookie: str) -> str:
    """What the ledger keeps of a cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()


_everything = sa.select(users.c.name, users.c.role, sessions.c.token, sessions.c.began, sessions.c.seen).join(
    users, sessions.c.user == users.c.name
)


def _good(now: float) -> sa.ColumnElement[bool]:
    return (sessions.c.seen > now - IDLE_SECONDS) & (sessions.c.began > now - LONGEST_SECONDS)
