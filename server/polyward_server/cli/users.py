"""`polyward-hub`: who may sign in to the dashboard."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.table import Table

from polyward_server.cli.app import PEOPLE, HubArgument, app
from polyward_server.cli.naming import ACTOR
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.people import sessions, users
from polyward_server.people.entry import sign_out_everywhere
from polyward_shared.commands import new_app, out, talk
from polyward_shared.problems import Problem

user = new_app("The people of the dashboard.")
app.add_typer(user, name="user", rich_help_panel=PEOPLE)

NameArgument = Annotated[str, typer.Argument(help="the person's name, in small letters", metavar="NAME")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]


class Role(StrEnum):
    """What a person may do."""

    VIEWER = "viewer"
    COORDINATOR = "coordinator"
    ADMIN = "admin"


RoleOption = Annotated[
    Role, typer.Option(help="viewers see, coordinators run studies and let sites in, admins let people in")
]


@user.command("add")
def add(
    hub: HubArgument, name: NameArgument, role: RoleOption = Role.VIEWER, password_stdin: FromStdin = False
) -> None:
    """Let a person sign in. You are asked for a password of at least 12 characters, twice."""
    engine = _engine(hub)
    password = _password(from_stdin=password_stdin)
    with engine.begin() as db:
        users.add(db, name, role, password, actor=ACTOR)
    out.print(f"[green]{name}[/] may sign in as {role}")


@user.command("list")
def list_command(hub: HubArgument) -> None:
    """Show who may sign in."""
    table = Table("name", "role", "signs in with", "since", "state")
    with _engine(hub).connect() as db:
        for each in users.everybody(db):
            state = f"[red]disabled[/] {each.disabled[:10]}" if each.disabled else "may sign in"
            table.add_row(each.name, each.role, "provider" if each.subject else "password", each.made[:10], state)
    out.print(table)


@user.command("role")
def role_command(
    hub: HubArgument, name: NameArgument, role: Annotated[Role, typer.Argument(help="the new role", metavar="ROLE")]
) -> None:
    """Give a person another role. They have to sign in again."""
    with _engine(hub).begin() as db:
        users.change_role(db, name, role, actor=ACTOR)
    out.print(f"{name} is {role} now")


@user.command("password")
def password_command(hub: HubArgument, name: NameArgument, password_stdin: FromStdin = False) -> None:
    """Give a person another password. They are signed out everywhere."""
    engine = _engine(hub)
    with engine.connect() as db:
        users.named(db, name)
    password = _password(from_stdin=password_stdin)
    with engine.begin() as db:
        users.change_password(db, name, password, actor=ACTOR)
    out.print(f"{name} has a new password")


@user.command("disable")
def disable(hub: HubArgument, name: NameArgument) -> None:
    """Keep a person out from now on. What they did stays on record."""
    with _engine(hub).begin() as db:
        users.disable(db, name, actor=ACTOR)
    out.print(f"{name} is signed out and may sign in no more")


@user.command("enable")
def enable(hub: HubArgument, name: NameArgument) -> None:
    """Let a person in again."""
    with _engine(hub).begin() as db:
        users.enable(db, name, actor=ACTOR)
    out.print(f"{name} may sign in")


@app.command("sessions", rich_help_panel=PEOPLE)
def sessions_command(
    hub: HubArgument,
    end: Annotated[str | None, typer.Option(help="sign this person out everywhere", metavar="NAME")] = None,
) -> None:
    """Show who is signed in to the dashboard; or sign somebody out."""
    engine = _engine(hub)
    if end is not None:
        with engine.begin() as db:
            users.named(db, end)
            count = sign_out_everywhere(db, end, actor=ACTOR)
        talk.print(f"{end} is signed out ({count} {'session' if count == 1 else 'sessions'})")
    table = Table("name", "role", "signed in", "last seen")
    with engine.connect() as db:
        for each in sessions.present(db, time.time()):
            table.add_row(each.user, each.role, _moment(each.began), _moment(each.seen))
    out.print(table)


def _engine(hub: HubArgument) -> sa.Engine:
    return Ledger(Hub(hub).ledger).engine


def _password(*, from_stdin: bool) -> str:
    """Never an argument: others on the machine see those."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Problem("the password", "cannot be asked for here", remedy="give it with --password-stdin")
    asked: str = typer.prompt("password", hide_input=True, confirmation_prompt="the same again", err=True)
    return asked


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
