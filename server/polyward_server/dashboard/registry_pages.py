"""Pages of the registry: one encoder, and two side by side. The list of all is a page of panels."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from polyward_server.dashboard.actions.encoders import Called
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Viewer
from polyward_server.views.encoders import read_comparison, read_encoder_page

router = APIRouter(include_in_schema=False)


@router.get("/registry/compare", response_class=HTMLResponse)
def compare(request: Request, person: Viewer, a: Called, b: Called) -> str:
    desk: Desk = request.app.state.desk
    view = read_comparison(desk.ledger, desk.registry, a.strip(), b.strip())
    return desk.html("comparison.html", page="registry", title="Two encoders", person=person, view=view)


@router.get("/registry/{name}", response_class=HTMLResponse)
def encoder(request: Request, person: Viewer, name: str) -> str:
    desk: Desk = request.app.state.desk
    view = read_encoder_page(desk.ledger, desk.registry, name)
    return desk.html("encoder.html", page="registry", title=f"Encoder {view.row.state[:12]}", person=person, view=view)
