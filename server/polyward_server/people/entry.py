"""Signing in with name and password, and out."""

from __future__ import annotations

import logging
import math

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.people import attempts, passwords, sessions, users
from polyward_server.records import Event
from polyward_server.tables import users as people

log = logging.getLogger(__name__)


class TryLater(Exception):
    """Too many attempts; `seconds` to wait."""

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__(f"too many attempts; try again in {self.seconds} s")


class WrongEntry(Exception):
    """The same for every reason, so that it tells nothing."""

    def __init__(self) -> None:
        super().__init__("name or password is wrong")


def sign_in(engine: sa.Engine, name: str, password: str, address: str, now: float) -> str:
    """The cookie of a new session. Does the same work for names that are not there.

    Raises `TryLater` or `WrongEntry`.
    """
    wait, number = attempts.attempt(engine, name, address, now)
    if wait > 0:
        raise TryLater(wait)
    with engine.connect() as db:
        stored = _stored(db, name)
    if not passwords.is_right(stored, password):
        log.warning("a sign-in from %s failed", address)
        if stored and number == attempts.FREE:
            with engine.begin() as db:
                audit.append(db, Event("", 0, "", "sign-in-failed", f"{name}: {number} times from {address}"))
        raise WrongEntry
    better = passwords.hashed(password) if passwords.is_outdated(stored) else stored
    with engine.begin() as db:
        audit.append(db, Event("", 0, "", "signed-in", f"from {address}", name))
        if _stored(db, name) != stored:  # disabled, or given another password, while we looked
            raise WrongEntry
        db.execute(people.update().where(people.c.name == name).values(password=better))
        attempts.succeeded(db, name, address)
        return sessions.begin(db, name, now)


def vouched(engine: sa.Engine, name: str, role: str, subject: str, now: float) -> str:
    """The cookie of a new session for somebody whom the OpenID provider vouches for, with the role that it gives them.

    Raises `Problem` where the name is somebody else's, or the person was disabled.
    """
    with engine.begin() as db:
        users.admit(db, name, role, subject)
        audit.append(db, Event("", 0, "", "signed-in", "by the OpenID provider", name))
        return sessions.begin(db, name, now)


def sign_out(engine: sa.Engine, name: str, cookie: str) -> None:
    """Ends this session of the person."""
    with engine.begin() as db:
        audit.append(db, Event("", 0, "", "signed-out", "", name))
        sessions.end(db, cookie)


def sign_out_everywhere(db: sa.Connection, name: str, *, actor: str) -> int:
    """Ends all sessions of a person; how many there were."""
    audit.append(db, Event("", 0, "", "signed-out", f"{name}, everywhere", actor))
    return sessions.end_all(db, name)


def change_own(engine: sa.Engine, name: str, present: str, new: str, address: str, now: float) -> str:
    """Another password for oneself, who knows the present one. All sessions end; the cookie of a new one is returned.

    Attempts count as at signing in: a stolen session is no place to guess at leisure. Raises `TryLater`, `WrongEntry`,
    or `Problem` where the new password is none.
    """
    wait, _ = attempts.attempt(engine, name, address, now)
    if wait > 0:
        raise TryLater(wait)
    with engine.connect() as db:
        stored = _stored(db, name)
    if not passwords.is_right(stored, present):
        raise WrongEntry
    with engine.begin() as db:
        audit.take_turn(db)
        if _stored(db, name) != stored:  # disabled, or given another password, while we looked
            raise WrongEntry
        users.change_password(db, name, new, actor=name)
        attempts.succeeded(db, name, address)
        return sessions.begin(db, name, now)


def _stored(db: sa.Connection, name: str) -> str:
    """The hash of the person's password; empty for those who are not there, disabled, or not of ours."""
    if not users.NAME.fullmatch(name):
        return ""
    query = sa.select(people.c.password).where(people.c.name == name, people.c.disabled == "")
    return db.execute(query).scalar() or ""
