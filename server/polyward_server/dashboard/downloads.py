"""What people take away of a study: the file that sites approve, and the report."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from polyward_server.dashboard.answers import REFUSALS, Digest
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Viewer
from polyward_server.report.reading import read_facts
from polyward_server.report.writing import page
from polyward_server.writing import written

router = APIRouter(tags=["studies"], responses=REFUSALS)


@router.get("/studies/{digest}/study.toml", response_class=Response)
def file(request: Request, _: Viewer, digest: Digest) -> Response:
    """The study as the file that sites read and approve."""
    study = request.app.state.desk.ledger.study(digest)
    return _attached(f"{study.id}.toml", written(study), "application/toml")


@router.get("/studies/{digest}/report.html", response_class=Response)
def report(request: Request, _: Viewer, digest: Digest) -> Response:
    """The study's report, with sites by letters and numbers in steps; the command line can write names and PDF."""
    desk: Desk = request.app.state.desk
    study = desk.ledger.study(digest)
    facts = read_facts(desk.ledger, desk.roster, desk.hub.file.name, digest, written(study), named=False, exact=False)
    return _attached(f"{study.id}-report.html", page(facts), "text/html; charset=utf-8")


def _attached(name: str, text: str, kind: str) -> Response:
    return Response(text, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
