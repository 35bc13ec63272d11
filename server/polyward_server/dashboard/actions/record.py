"""The record of events: looking through it now, and reading any part of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from polyward_server.dashboard.answers import REFUSALS, Said
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Coordinator, Viewer
from polyward_server.dashboard.panels import harmless
from polyward_server.views.audit import EventRow, Events, Wanted, read_events

AT_ONCE = 1000  # events that are in memory at the same time

router = APIRouter(tags=["record"], responses=REFUSALS)


@router.post("/audit/verify")
def verify(request: Request, _: Coordinator) -> Said:
    """Goes through every event from the first on, and every statement of a site, now."""
    found = request.app.state.desk.verifier.verify(whole=True)
    if found.problem:
        return Said(said=f"the record does not agree: {found.problem}")
    return Said(said=f"{found.events} events are whole; looked through in {found.seconds:.1f} s")


@router.get("/api/record")
def events(request: Request, _: Viewer, wanted: Annotated[Wanted, Query()]) -> Events:
    """A page of the events that one asks for, the newest first."""
    return read_events(request.app.state.desk.ledger, wanted)


@router.get("/api/record.csv", response_class=StreamingResponse)
def table(request: Request, _: Viewer, wanted: Annotated[Wanted, Query()]) -> StreamingResponse:
    """All events that one asks for, the newest first, as CSV."""
    headers = {"content-disposition": 'attachment; filename="record.csv"'}
    lines = _lines(request.app.state.desk, wanted)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _lines(desk: Desk, wanted: Wanted) -> Iterator[str]:
    columns = list(EventRow.model_fields)
    yield ",".join(columns) + "\n"
    while True:
        page = read_events(desk.ledger, wanted, most=AT_ONCE)
        text = io.StringIO()
        rows = csv.DictWriter(text, columns, lineterminator="\n")
        for row in page.rows:
            rows.writerow({key: harmless(value) for key, value in row.model_dump(mode="json").items()})
        yield text.getvalue()
        if not page.older:
            return
        wanted = wanted.model_copy(update={"before": page.older})
