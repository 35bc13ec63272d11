"""People: one's own account, and for admins who may sign in, with what role, and who is signed in."""

from __future__ import annotations

import time
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from polyward_server.dashboard.answers import Go, Said
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Admin, Person, Viewer
from polyward_server.dashboard.panels import drawn, panels_of
from polyward_server.dashboard.signing_in import refused_entries, set_session
from polyward_server.people import passwords, users
from polyward_server.people.entry import change_own, sign_out_everywhere
from polyward_shared.reading import Frozen

pages = APIRouter(include_in_schema=False)
router = APIRouter(tags=["people"])

Text = Annotated[str, Field(max_length=300)]


class Own(Frozen):
    """A person's new password for themselves."""

    present: Text
    new: Text
    again: Text


class Added(Frozen):
    """A new person."""

    name: Text
    role: users.Role


class NewRole(Frozen):
    """Another role for somebody."""

    role: users.Role


@pages.get("/people", response_class=HTMLResponse)
def people(request: Request, person: Admin) -> str:
    desk: Desk = request.app.state.desk
    panels = [(panel, drawn(desk, panel, "", person.role)) for panel in panels_of("people")]
    return desk.html("people.html", page="people", title="People", person=person, panels=panels, study="")


@pages.get("/account", response_class=HTMLResponse)
def account(request: Request, person: Viewer) -> str:
    desk: Desk = request.app.state.desk
    with desk.ledger.engine.connect() as db:
        mine = users.named(db, person.name)
    return desk.html("account.html", page="account", title="Your account", person=person, user=mine)


@router.post("/account/password")
def change_mine(request: Request, response: Response, person: Viewer, own: Own) -> Said:
    """Another password for oneself; it ends all one's other sessions. Needs the present password."""
    if own.new != own.again:
        raise HTTPException(422, "the new password was not written twice alike")
    address = request.client.host if request.client else ""
    with refused_entries():
        cookie = change_own(_engine(request), person.name, own.present, own.new, address, time.time())
    set_session(response, cookie)
    return Said(said="the password is changed; you are signed out everywhere else. Load the page again to go on")


@router.post("/account/sign-out")
def leave_everywhere(request: Request, person: Viewer) -> Go:
    """Ends all one's sessions."""
    with _engine(request).begin() as db:
        sign_out_everywhere(db, person.name, actor=person.name)
    return Go(go="/sign-in")


@router.post("/people/add")
def add(request: Request, person: Admin, added: Added) -> Said:
    """Somebody new, with a first password that is told in the answer and nowhere else."""
    first = passwords.first_password()
    with _engine(request).begin() as db:
        users.add(db, added.name, added.role, first, actor=person.name)
    return Said(said=f"{added.name} may sign in with the first password {first} (shown only now; to be changed)")


@router.post("/people/{name}/role")
def change_role(request: Request, person: Admin, name: str, new: NewRole) -> Said:
    """Another role for somebody else, who has to sign in again."""
    _another(person, name)
    with _engine(request).begin() as db:
        users.change_role(db, name, new.role, actor=person.name)
    return Said(said=f"{name} is {new.role} now, and has to sign in again")


@router.post("/people/{name}/password")
def renew_password(request: Request, person: Admin, name: str) -> Said:
    """A new first password for somebody else."""
    _another(person, name)
    first = passwords.first_password()
    with _engine(request).begin() as db:
        users.change_password(db, name, first, actor=person.name)
    return Said(said=f"{name}'s new password is {first} (shown only now; to be changed)")


@router.post("/people/{name}/disable")
def disable(request: Request, person: Admin, name: str) -> Said:
    """Somebody else may sign in no more, from now on."""
    _another(person, name)
    with _engine(request).begin() as db:
        users.disable(db, name, actor=person.name)
    return Said(said=f"{name} is signed out and may sign in no more")


@router.post("/people/{name}/enable")
def enable(request: Request, person: Admin, name: str) -> Said:
    """Somebody else may sign in again."""
    _another(person, name)
    with _engine(request).begin() as db:
        users.enable(db, name, actor=person.name)
    return Said(said=f"{name} may sign in again")


@router.post("/people/{name}/sign-out")
def put_out(request: Request, person: Admin, name: str) -> Said:
    """Ends all sessions of somebody else."""
    _another(person, name)
    with _engine(request).begin() as db:
        count = sign_out_everywhere(db, name, actor=person.name)
    return Said(said=f"{name} is signed out ({count} {'session' if count == 1 else 'sessions'})")


def _another(person: Person, name: str) -> None:
    """Nobody changes their own rights: so at least one admin always stays."""
    if name == person.name:
        raise HTTPException(409, "this is you: ask another admin, or use the command line")


def _engine(request: Request) -> sa.Engine:
    desk: Desk = request.app.state.desk
    return desk.ledger.engine
