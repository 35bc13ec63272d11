"""The way in and out: the sign-in page, and what stands behind its button."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import anyio
from anyio import CapacityLimiter
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field

from polyward_server.dashboard.answers import Go
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import COOKIE, Viewer, asking
from polyward_server.dashboard.ways import local
from polyward_server.people.entry import TryLater, WrongEntry, sign_in, sign_out
from polyward_server.people.sessions import LONGEST_SECONDS
from polyward_server.people.users import nobody_may_sign_in
from polyward_shared.reading import Frozen

router = APIRouter(include_in_schema=False)

AT_ONCE = 2  # passwords; each takes 64 MiB while it is checked
MOST_WAITING = 20

Text = Annotated[str, Field(max_length=300)]


class Entry(Frozen):
    """What the sign-in page sends."""

    name: Text
    password: Text
    next: Annotated[str, Field(max_length=2100)] = "/"


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in_page(request: Request, next: str = "/") -> Response:
    desk: Desk = request.app.state.desk
    if asking(request) is not None:
        return RedirectResponse(local(next), 303)
    with desk.ledger.engine.connect() as db:
        shut = nobody_may_sign_in(db)
    provider = desk.hub.file.oidc
    values = {"next": local(next), "shut": shut and provider is None, "provider": provider}
    return HTMLResponse(desk.html("sign_in.html", title="Sign in", person=None, page="", **values))


@router.post("/sign-in")
async def enter(request: Request, response: Response, entry: Entry) -> Go:
    desk: Desk = request.app.state.desk
    limiter: CapacityLimiter = request.app.state.passwords
    if limiter.statistics().tasks_waiting >= MOST_WAITING:
        raise HTTPException(503, "too many people sign in just now: try again", {"retry-after": "5"})
    address = request.client.host if request.client else ""
    name = entry.name.strip().lower()
    with refused_entries():
        cookie = await anyio.to_thread.run_sync(
            sign_in, desk.ledger.engine, name, entry.password, address, time.time(), limiter=limiter
        )
    set_session(response, cookie)
    return Go(go=local(entry.next))


@router.post("/sign-out")
def leave(request: Request, response: Response, person: Viewer) -> Go:
    desk: Desk = request.app.state.desk
    sign_out(desk.ledger.engine, person.name, request.cookies[COOKIE])
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return Go(go="/sign-in")


@contextmanager
def refused_entries() -> Iterator[None]:
    """A wrong password, or too many, becomes the answer that says so."""
    try:
        yield
    except TryLater as later:
        raise HTTPException(429, str(later), {"retry-after": str(later.seconds)}) from None
    except WrongEntry as wrong:
        raise HTTPException(403, str(wrong)) from None


def set_session(response: Response, cookie: str) -> None:
    """Gives the browser its session: over TLS alone, to this host alone, out of reach of scripts and other sites."""
    response.set_cookie(
        COOKIE, cookie, max_age=LONGEST_SECONDS, path="/", secure=True, httponly=True, samesite="strict"
    )
