"""Who may see and do what. Every route names the role it needs; nothing is open but the way in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import Depends, HTTPException, Request

from polyward_server.tables import sessions, users

Role = Literal["viewer", "coordinator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "coordinator", "admin")  # each may do what those before it may
COOKIE = "__Host-session"


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in; `token` is what their changing requests must bear."""

    name: str
    role: Role
    token: str

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


def needs(role: Role) -> Callable[[Request], Person]:
    """A dependency: the person, if they may do what this role may."""

    def check(request: Request) -> Person:
        person = _person(request)
        if person is None:
            raise HTTPException(401, "sign in first")
        if not person.may(role):
            raise HTTPException(403, f"this needs the role {role}")
        return person

    return check


Viewer = Annotated[Person, Depends(needs("viewer"))]
Coordinator = Annotated[Person, Depends(needs("coordinator"))]
Admin = Annotated[Person, Depends(needs("admin"))]


def _person(request: Request) -> Person | None:
    cookie = request.cookies.get(COOKIE, "")
    query = (
        sa.select(users.c.name, users.c.role, sessions.c.token)
        .join(sessions, sessions.c.user == users.c.name)
        .where(sessions.c.id == hashlib.sha256(cookie.encode()).hexdigest(), users.c.disabled == "")
    )
    desk: Any = request.app.state.desk
    with desk.ledger.engine.connect() as db:
        row = db.execute(query).first()
    return Person(*row) if row else None
