"""The pages, and the stream that keeps each of them current."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Person, Viewer
from polyward_server.dashboard.live import Live, Page
from polyward_server.dashboard.panels import HUB_PANELS, drawn, panels_of

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def overview(request: Request, person: Viewer) -> str:
    return _page(request, person, "overview", "Overview")


def _page(request: Request, person: Person, name: str, title: str, study: str = "") -> str:
    """A page whose panels are in it when it arrives: it can be read without the script."""
    desk: Desk = request.app.state.desk
    panels = [(panel, drawn(desk, panel, study, person.role)) for panel in panels_of(name)]
    return desk.html(f"{name}.html", page=name, title=title, person=person, panels=panels, study=study)


@router.get("/live/{page}", response_class=EventSourceResponse)
async def live(request: Request, person: Viewer, page: str, study: str = "") -> AsyncIterator[ServerSentEvent]:
    if page not in {*HUB_PANELS, "study"}:
        raise HTTPException(404, "there is no such page")
    stream: Live = request.app.state.live
    async for name, html in stream.panels(Page(page, study, person.role)):
        yield ServerSentEvent(event="panel", data={"panel": name, "html": html})
