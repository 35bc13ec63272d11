"""Writing a new study: checking what was filled in, keeping it as a draft, queueing it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from polyward_server import coordination
from polyward_server.dashboard.answers import REFUSALS, Digest, Go, as_conflict
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.forms import Mistake, StudyForm, Text, form_of, mistakes, study_in, study_of
from polyward_server.dashboard.guard import Coordinator, Viewer
from polyward_server.views.proposal import Proposal, read_proposal
from polyward_server.writing import written
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen
from polyward_shared.study import Study

router = APIRouter(tags=["new study"], responses=REFUSALS)


class Checked(Frozen):
    """What became of a form: its mistakes, or the study.toml that it says with a preview, as HTML and for programs."""

    mistakes: tuple[Mistake, ...] = ()
    text: str = ""
    proposal: Proposal | None = None
    html: str = ""


class Pasted(Frozen):
    """A study.toml."""

    text: Annotated[Text, Field(min_length=1)]


@router.post("/new/check")
def check(request: Request, _: Coordinator, form: StudyForm) -> Checked:
    """What the form says so far. Nothing is kept."""
    desk: Desk = request.app.state.desk
    try:
        study = study_of(form)
    except Problem as problem:
        return Checked(mistakes=mistakes(problem))
    proposal = read_proposal(desk.ledger, desk.registry, study)
    return Checked(text=written(study), proposal=proposal, html=desk.html("proposal.html", view=proposal))


@router.post("/new/read")
def read(_: Coordinator, pasted: Pasted) -> StudyForm:
    """The form that says the same as a study.toml."""
    return form_of(study_in(pasted.text))


@router.post("/new/draft")
def draft(request: Request, person: Coordinator, form: StudyForm) -> Go:
    """Keeps the study for sites to approve."""
    return _kept(request, study_of(form), person.name)


@router.post("/new/queue")
def queue(request: Request, person: Coordinator, form: StudyForm) -> Go:
    """Queues the study at once; sites may approve it while it waits."""
    desk: Desk = request.app.state.desk
    study = study_of(form)
    with as_conflict():
        digest = coordination.enqueue(desk.ledger, study, person.name)
    return Go(go=f"/new/{digest}")


@router.get("/api/studies/{digest}/proposal")
def proposal(request: Request, _: Viewer, digest: Digest) -> Proposal:
    """What a study has leave each site."""
    desk: Desk = request.app.state.desk
    return read_proposal(desk.ledger, desk.registry, desk.ledger.study(digest))


def _kept(request: Request, study: Study, actor: str) -> Go:
    with as_conflict():
        digest = coordination.draft(request.app.state.desk.ledger, study, actor)
    return Go(go=f"/new/{digest}")
