"""The way in by an OpenID provider: there, and back."""

from __future__ import annotations

import logging
import time

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.oidc import NotVouched, Provider
from polyward_server.dashboard.signing_in import set_session
from polyward_server.dashboard.ways import local
from polyward_server.people.attempts import network
from polyward_server.people.entry import vouched
from polyward_shared.problems import Problem

log = logging.getLogger(__name__)

BROWSER = "__Host-asking"  # ties an answer to the browser that asked; it comes back from another site, so it is lax

router = APIRouter(include_in_schema=False)


@router.get("/sign-in/provider")
def ask(request: Request, next: str = "/") -> Response:
    provider: Provider = request.app.state.provider
    address = network(request.client.host if request.client else "")
    try:
        there, browser = provider.ask(f"https://{request.headers['host']}/sign-in/back", local(next), address)
    except NotVouched as why:
        raise HTTPException(503, str(why)) from None
    response = RedirectResponse(there, 303)
    response.set_cookie(BROWSER, browser, max_age=600, path="/", secure=True, httponly=True, samesite="lax")
    return response


@router.get("/sign-in/back", response_class=HTMLResponse)
def back(request: Request, state: str = "", code: str = "") -> Response:
    """The browser goes on from a page of ours: a redirect from the provider's would not send the session's cookie."""
    desk: Desk = request.app.state.desk
    provider: Provider = request.app.state.provider
    try:
        who, next = provider.answered(state, code, request.cookies.get(BROWSER, ""))
        cookie = vouched(desk.ledger.engine, who.name, who.role, who.subject, time.time())
    except (NotVouched, Problem) as why:
        log.warning("a sign-in by the provider was refused: %s", type(why).__name__)
        raise HTTPException(403, str(why)) from None
    response = HTMLResponse(desk.html("again.html", where=next))
    response.delete_cookie(BROWSER, path="/", secure=True, httponly=True, samesite="lax")
    set_session(response, cookie)
    return response
