"""What people and programs are told when something cannot be had: a page of the house, or JSON. Never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from polyward_server.views.picture import NoSuchStudy
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen

log = logging.getLogger(__name__)

PROGRAMS = ("/api/", "/live/", "/openapi.json", "/metrics", "/healthz")  # their paths are read by no person
ABSENT = "the address is not quite right, or what it showed is there no more"
TITLES = {
    400: "This address is not the hub's",
    403: "Not for this role",
    404: "There is no such page",
    405: "Not in this way",
    500: "Something broke in the hub",
    503: "The hub is busy",
}


class Refusal(Frozen):
    """Why a request was not granted, for a person."""

    detail: str


def wants_page(request: Request) -> bool:
    """Whether a person in a browser asks for a page."""
    if request.method == "POST" or request.scope["path"].startswith(PROGRAMS):
        return False
    return "text/html" in request.headers.get("accept", "")


def refusal(request: Request, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that says so."""
    if not wants_page(request):
        return JSONResponse({"detail": sentence}, status, headers)
    desk, person = request.app.state.desk, getattr(request.state, "person", None)
    title = TITLES.get(status, "This cannot be had")
    html = desk.html("refusal.html", title=title, person=person, page="", status=status, sentence=sentence)
    return HTMLResponse(html, status, headers)


def add_handlers(app: FastAPI) -> None:
    """Everything that a route may raise becomes a sentence."""

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> Response:
        sentence = ABSENT if error.detail == "Not Found" else str(error.detail)
        return refusal(request, error.status_code, sentence, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return refusal(request, 422, "; ".join(_sentence(each) for each in error.errors()[:5]))

    @app.exception_handler(Problem)
    async def mistaken(request: Request, problem: Problem) -> Response:
        return refusal(request, 404 if isinstance(problem, NoSuchStudy) else 422, str(problem))

    @app.exception_handler(sa.exc.NoResultFound)
    async def absent(request: Request, _: sa.exc.NoResultFound) -> Response:
        return refusal(request, 404, "the ledger holds nothing of this name")

    @app.exception_handler(sa.exc.DataError)
    async def unfit(request: Request, _: sa.exc.DataError) -> Response:
        return refusal(request, 422, "this holds something that the ledger cannot")

    @app.exception_handler(sa.exc.OperationalError)
    async def busy(request: Request, error: sa.exc.OperationalError) -> Response:
        log.error("the ledger cannot be used: %s", error.orig)
        return refusal(request, 503, "the ledger cannot be used just now: try again", {"retry-after": "5"})


def _sentence(error: Mapping[str, object]) -> str:
    """Without what was found: it may be a password."""
    where = error["loc"]
    place = ".".join(str(part) for part in where[1:]) if isinstance(where, tuple) else ""
    return f"{place}: {error['msg']}" if place else str(error["msg"])
