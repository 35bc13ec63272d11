"""Inviting sites, letting them in, and putting them out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from polyward_server import admission
from polyward_server.dashboard.answers import REFUSALS, Said, as_conflict
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Coordinator
from polyward_shared.invitation import ends, written
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen
from polyward_shared.study import Name

router = APIRouter(tags=["sites"], prefix="/sites", responses=REFUSALS)


class Known(Frozen):
    """A site."""

    site: Name


class Compared(Frozen):
    """A site that asks to join, and the fingerprint that its people read out; blanks in it do not matter."""

    site: Name
    fingerprint: Annotated[str, Field(max_length=100)]


class Confirmed(Frozen):
    """A site, named twice, so that nobody is put out by a slip."""

    site: Name
    typed: Annotated[str, Field(max_length=64)]


class Unused(Frozen):
    """An invitation, by the hash of its token."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Invited(Frozen):
    """The invitation itself: it is told this once, and kept nowhere."""

    said: str
    invitation: str


@router.post("/invite")
def invite(request: Request, person: Coordinator, terms: admission.Terms) -> Invited:
    """An invitation for a site."""
    desk: Desk = request.app.state.desk
    made = admission.invite(
        desk.hub, desk.roster, terms.site, hours=terms.hours, approved=terms.approved, actor=person.name
    )
    return Invited(
        said=f"invitation for {terms.site}, good once, until {ends(made):%Y-%m-%d %H:%M} UTC", invitation=written(made)
    )


@router.post("/withdraw")
def withdraw(request: Request, person: Coordinator, unused: Unused) -> Said:
    """Takes an invitation back that nobody has used."""
    with as_conflict():
        site = admission.withdraw(request.app.state.desk.roster, unused.id, actor=person.name)
    return Said(said=f"the invitation of {site} is good no more")


@router.post("/approve")
def approve(request: Request, person: Coordinator, compared: Compared) -> Said:
    """Lets a site in whose fingerprint was read out."""
    with as_conflict():
        admission.approve(request.app.state.desk.roster, compared.site, compared.fingerprint, actor=person.name)
    return Said(said=f"{compared.site} is approved; its certificate is on its way")


@router.post("/reject")
def reject(request: Request, person: Coordinator, known: Known) -> Said:
    """Turns a site's request down."""
    with as_conflict():
        admission.reject(request.app.state.desk.roster, known.site, actor=person.name)
    return Said(said=f"the request of {known.site} is turned down")


@router.post("/revoke")
def revoke(request: Request, person: Coordinator, confirmed: Confirmed) -> Said:
    """Puts a site out at once."""
    with as_conflict():
        if confirmed.typed.strip() != confirmed.site:
            raise Problem(confirmed.site, "its name was typed otherwise", expected=confirmed.site)
        admission.revoke(request.app.state.desk.roster, confirmed.site, actor=person.name)
    return Said(said=f"{confirmed.site} is put out; a new invitation and a new key bring it back")
