"""Pages for writing a new study, and for what happens with it next."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Coordinator
from polyward_server.dashboard.questions import encoder_questions, sections, task_questions
from polyward_server.views.proposal import read_proposal

router = APIRouter(include_in_schema=False)


@router.get("/new", response_class=HTMLResponse)
def new(request: Request, person: Coordinator) -> str:
    desk: Desk = request.app.state.desk
    return desk.html(
        "new.html",
        page="overview",
        title="New study",
        person=person,
        study="",
        sections={section.name: section for section in sections()},
        encoders=encoder_questions(),
        tasks=task_questions(),
    )


@router.get("/new/{digest}", response_class=HTMLResponse)
def draft(request: Request, person: Coordinator, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> str:
    desk: Desk = request.app.state.desk
    study = desk.ledger.study(digest)
    return desk.html(
        "draft.html",
        page="overview",
        title=study.id,
        person=person,
        study=study,
        digest=digest,
        state=desk.ledger.study_state(digest)[0],
        approved=len(desk.ledger.approvals(digest)),
        view=read_proposal(desk.ledger, desk.registry, study),
    )
