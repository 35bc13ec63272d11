"""The pages, and the stream that keeps each of them current."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Person, Viewer
from polyward_server.dashboard.live import Live, Page
from polyward_server.dashboard.panels import HUB_PANELS, Choice, chosen, drawn, panels_of
from polyward_server.dashboard.presence import MOST_STREAMS, while_signed_in
from polyward_server.views.audit import Wanted, read_events

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def overview(request: Request, person: Viewer) -> str:
    return _page(request, person, "overview", "Overview")


@router.get("/sites", response_class=HTMLResponse)
def sites(request: Request, person: Viewer) -> str:
    return _page(request, person, "sites", "Sites")


@router.get("/registry", response_class=HTMLResponse)
def registry(request: Request, person: Viewer) -> str:
    return _page(request, person, "registry", "Registry")


@router.get("/audit", response_class=HTMLResponse)
def audit(request: Request, person: Viewer, wanted: Annotated[Wanted, Query()]) -> str:
    """The newest events are kept current; what was asked for, and older pages, stand still."""
    desk: Desk = request.app.state.desk
    events = read_events(desk.ledger, wanted)
    [_, panel] = panels_of("audit")
    return _page(
        request,
        person,
        "audit",
        "Audit",
        wanted=wanted,
        events=events,
        live=wanted == Wanted(),
        query=urlencode({key: value for key, value in wanted.model_dump(exclude={"before"}).items() if value}),
        chosen=desk.html("panels/events.html", panel=panel, view=events, study="", role=person.role),
        pairs=lambda values: [(value, value) for value in values],
    )


@router.get("/studies/{prefix}", response_class=HTMLResponse)
def study(request: Request, person: Viewer, prefix: str) -> str:
    desk: Desk = request.app.state.desk
    digest = desk.pictures.named(prefix)
    choice = _choice(request, "study")
    return _page(
        request, person, "study", desk.pictures.look(digest).study.id, digest, choice, chosen=urlencode(choice)
    )


def _page(
    request: Request,
    person: Person,
    name: str,
    title: str,
    study: str = "",
    choice: Choice = (),
    **values: Any,
) -> str:
    """A page whose panels are in it when it arrives: it can be read without the script."""
    desk: Desk = request.app.state.desk
    panels = [(panel, drawn(desk, panel, study, person.role, choice)) for panel in panels_of(name)]
    return desk.html(f"{name}.html", page=name, title=title, person=person, panels=panels, study=study, **values)


def _choice(request: Request, name: str) -> Choice:
    """What the address chooses of the page's panels."""
    return tuple(sorted({each for panel in panels_of(name) for each in chosen(panel, request.query_params).items()}))


def _watched(request: Request, person: Viewer, page: str, study: str = "") -> Page:
    """What a stream is asked for. A stream that has begun can refuse nothing, so it is done here."""
    if page not in {*HUB_PANELS, "study"}:
        raise HTTPException(404, "there is no such page")
    if not all(person.may(panel.role) for panel in panels_of(page)):
        raise HTTPException(403, f"this page is not for the role {person.role}")
    if request.app.state.streams[person.name] >= MOST_STREAMS:
        raise HTTPException(429, f"{MOST_STREAMS} pages are open in your name: close some", {"retry-after": "10"})
    desk: Desk = request.app.state.desk
    digest = desk.pictures.named(study) if page == "study" else ""
    return Page(page, digest, person.role, _choice(request, page))


@router.get("/live/{page}", response_class=EventSourceResponse)
async def live(request: Request, watched: Annotated[Page, Depends(_watched)]) -> AsyncIterator[ServerSentEvent]:
    stream: Live = request.app.state.live
    async for told in while_signed_in(request, stream.panels(watched)):
        if told is None:
            yield ServerSentEvent(event="signed-out", data="")
        else:
            name, html = told
            yield ServerSentEvent(event="panel", data={"panel": name, "html": html})
