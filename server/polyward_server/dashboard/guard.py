"""Who may see and do what. Every route names the role it needs; nothing is open but the way in.

The door (`door.py`) has found out who asks before a route is looked for; here it is said what they may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

from polyward_server.people.users import ROLES, Role

COOKIE = "__Host-session"  # with this prefix browsers take it only over TLS, for this host, from this host
OPEN = frozenset(
    {"/sign-in", "/sign-in/provider", "/sign-in/back", "/healthz", "/metrics"}  # the last asks for its own secret
)
STATIC = "/static"


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in; `token` is what their changing requests must bear."""

    name: str
    role: Role
    token: str

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency: the person, if they may do what this role may."""

    role: Role

    def __call__(self, request: Request) -> Person:
        person = asking(request)
        if person is None:
            raise HTTPException(401, "sign in first")
        if not person.may(self.role):
            raise HTTPException(403, f"this needs the role {self.role}")
        return person


Viewer = Annotated[Person, Depends(Needs("viewer"))]
Coordinator = Annotated[Person, Depends(Needs("coordinator"))]
Admin = Annotated[Person, Depends(Needs("admin"))]


def asking(request: Request) -> Person | None:
    """Who asks, as the door has found out; nobody on an open route."""
    person: Person | None = getattr(request.state, "person", None)
    return person


def is_open(path: str) -> bool:
    """Whether the path needs no session."""
    return path in OPEN or path.startswith(f"{STATIC}/")


def needed(app: FastAPI) -> dict[tuple[str, str], Role | None]:
    """What each method and path needs; nothing for the open ones. Raises `RuntimeError` for a route that is neither.

    An application with such a route does not start, so that none can be forgotten.
    """
    found: dict[tuple[str, str], Role | None] = {}
    for route in iter_route_contexts(app.routes):
        if route.path == STATIC:
            continue
        roles = [need.role for need in _needs(route)]
        if not roles and route.path not in OPEN:
            raise RuntimeError(f"the route {route.path} names no role: see polyward_server/dashboard/guard.py")
        for method in route.methods or {"GET"}:
            found[method, route.path or ""] = max(roles, key=ROLES.index) if roles else None
    return found


def _needs(route: RouteContext) -> list[Needs]:
    found, left = [], [route.dependant] if isinstance(getattr(route, "dependant", None), Dependant) else []
    while left:
        dependant = left.pop()
        if isinstance(dependant.call, Needs):
            found.append(dependant.call)
        left += dependant.dependencies
    return found
