"""The people of the dashboard. Each change is an event, in its transaction, with the name of who made it.

Whoever is given another role or password, or is disabled, is signed out everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.people import passwords
from polyward_server.people.sessions import end_all
from polyward_server.records import Event
from polyward_server.tables import users
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, formed, validated

Role = Literal["viewer", "coordinator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "coordinator", "admin")  # each may do what those before it may
NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,62}")
UserName = Annotated[str, formed(NAME.pattern, "1 to 63 small letters, digits, or any of . _ @ + - after the first")]


class Named(Frozen):
    """What a person's name and role may be."""

    name: UserName
    role: Role


@dataclass(frozen=True, slots=True)
class User:
    """One person. `subject` is who they are at the OpenID provider, or empty; `disabled` is when, or empty."""

    name: str
    role: str
    subject: str
    made: str
    disabled: str


def everybody(db: sa.Connection) -> list[User]:
    """All people by name."""
    return [_user(row) for row in db.execute(sa.select(users).order_by(users.c.name))]


def named(db: sa.Connection, name: str) -> User:
    """The person of this name. Raises `Problem` where there is none."""
    row = db.execute(sa.select(users).where(users.c.name == name)).first() if NAME.fullmatch(name) else None
    if row is None:
        raise Problem(name, "there is nobody of this name", remedy="polyward-hub user list HUB shows who there is")
    return _user(row)


def nobody_may_sign_in(db: sa.Connection) -> bool:
    """Whether the dashboard is shut for everybody, as it is on a new hub."""
    return db.execute(sa.select(users.c.name).where(users.c.disabled == "")).first() is None


def add(db: sa.Connection, name: str, role: str, password: str, *, actor: str) -> None:
    """A new person with a password. Raises `Problem` for a wrong or taken name, role or password."""
    validated({"name": name, "role": role}, Named, where=f"the person {name!r}")
    _insert(db, name, role, password=passwords.hashed(passwords.checked(name, password)), actor=actor)


def admit(db: sa.Connection, name: str, role: str, subject: str) -> None:
    """Somebody whom the OpenID provider vouches for, by `subject`, with the role that it gives them today.

    Raises `Problem` where the name is somebody else's, or the person was disabled here.
    """
    validated({"name": name, "role": role}, Named, where="the name or role that the provider tells")
    known = db.execute(sa.select(users).where(users.c.subject == subject)).first()
    if known is None:
        _insert(db, name, role, subject=subject, actor=name)
    elif known.name != name:
        raise Problem(name, f"is known here as {known.name}", remedy="ask an admin of the hub")
    elif known.disabled:
        raise Problem(name, "may not sign in here", remedy="ask an admin of the hub")
    elif known.role != role:
        change_role(db, name, role, actor=name)


def change_role(db: sa.Connection, name: str, role: str, *, actor: str) -> None:
    """Gives the person another role."""
    validated({"name": name, "role": role}, Named, where=f"the person {name!r}")
    _change(db, name, "person-role", f"{name}: {role}", actor, role=role)


def change_password(db: sa.Connection, name: str, password: str, *, actor: str) -> None:
    """Gives the person another password."""
    if named(db, name).subject:
        raise Problem(name, "signs in at the OpenID provider", remedy="change the password there")
    stored = passwords.hashed(passwords.checked(name, password))
    _change(db, name, "person-password", name, actor, password=stored)


def disable(db: sa.Connection, name: str, *, actor: str) -> None:
    """The person may sign in no more, and is signed out."""
    _change(db, name, "person-disabled", name, actor, disabled=_now())


def enable(db: sa.Connection, name: str, *, actor: str) -> None:
    """The person may sign in again."""
    _change(db, name, "person-enabled", name, actor, disabled="")


def _insert(db: sa.Connection, name: str, role: str, *, password: str = "", subject: str = "", actor: str) -> None:
    audit.take_turn(db)  # from here on nobody else adds the same name
    if db.execute(sa.select(users.c.name).where(users.c.name == name)).first():
        raise Problem(name, "has this name already", remedy="choose another name")
    db.execute(users.insert().values(name=name, role=role, password=password, subject=subject, made=_now()))
    audit.append(db, Event("", 0, "", "person-added", f"{name}: {role}", actor))


def _change(db: sa.Connection, name: str, what: str, detail: str, actor: str, **values: str) -> None:
    named(db, name)
    audit.append(db, Event("", 0, "", what, detail, actor))
    db.execute(users.update().where(users.c.name == name).values(**values))
    end_all(db, name)


def _user(row: sa.Row[Any]) -> User:
    return User(row.name, row.role, row.subject, row.made, row.disabled)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
