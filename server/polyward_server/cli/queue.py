"""`polyward-hub`: the queue, and the course of a study through it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from polyward_server import coordination
from polyward_server.cli.app import STUDIES, HubArgument, StudyArgument, app
from polyward_server.cli.naming import ACTOR, NamedStudy, named
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_server.writing import written
from polyward_shared.commands import out, talk
from polyward_shared.problems import Problem
from polyward_shared.study import read_study
from polyward_shared.whole import write_whole

Now = Annotated[bool, typer.Option("--now", help="leave the round, and ask the sites to end their work on it")]


@app.command(rich_help_panel=STUDIES)
def draft(hub: HubArgument, study: StudyArgument) -> None:
    """Keep a study for sites to approve; it runs once it is queued with `run`."""
    digest = coordination.draft(Ledger(Hub(hub).ledger), read_study(study), ACTOR)
    out.print(f"draft, digest {digest}", soft_wrap=True)


@app.command(rich_help_panel=STUDIES)
def discard(hub: HubArgument, study: NamedStudy) -> None:
    """Forget a draft."""
    ledger = Ledger(Hub(hub).ledger)
    coordination.discard(ledger, named(ledger, study), ACTOR)
    talk.print("discarded")


@app.command(rich_help_panel=STUDIES)
def queue(
    hub: HubArgument,
    study: Annotated[str | None, typer.Argument(help="a study to move: its file, id or digest")] = None,
    first: Annotated[bool, typer.Option("--first", help="before all that wait")] = False,
    priority: Annotated[int | None, typer.Option(help="higher ones are first; 0 when queued")] = None,
) -> None:
    """Show whose turn it is; or move a study in the line."""
    ledger = Ledger(Hub(hub).ledger)
    if study is not None:
        if first == (priority is not None):
            raise Problem(study, "where is it to go?", expected="either --first or --priority")
        digest = named(ledger, study)
        if priority is not None:
            coordination.prioritise(ledger, digest, priority, ACTOR)
        else:
            coordination.to_the_front(ledger, digest, ACTOR)
    table = Table("turn", "study", "state", "round")
    for turn, digest in enumerate(ledger.in_line(), start=1):
        wanted, last = ledger.study(digest), ledger.last_round(digest)
        state, reason = ledger.study_state(digest)
        told = escape(f"{state}: {reason}" if reason else state)
        table.add_row(str(turn), f"{wanted.id} {digest[:8]}", told, f"{last.number if last else 0}/{wanted.rounds}")
    out.print(table if table.row_count else "nothing waits")


@app.command(rich_help_panel=STUDIES)
def pause(hub: HubArgument, study: NamedStudy, now: Now = False) -> None:
    """Let a study rest after its current round; the next in line has its turn."""
    ledger = Ledger(Hub(hub).ledger)
    coordination.pause(ledger, named(ledger, study), ACTOR, now=now)
    talk.print("pausing at once" if now else "pausing after the current round")


@app.command(rich_help_panel=STUDIES)
def resume(hub: HubArgument, study: NamedStudy) -> None:
    """Go on with a paused study, before those that have not begun."""
    ledger = Ledger(Hub(hub).ledger)
    coordination.resume(ledger, named(ledger, study), ACTOR)
    talk.print("resuming")


@app.command(rich_help_panel=STUDIES)
def end(hub: HubArgument, study: NamedStudy, now: Now = False) -> None:
    """Stop a study after its current round; `run` goes on with it."""
    ledger = Ledger(Hub(hub).ledger)
    coordination.stop(ledger, named(ledger, study), ACTOR, now=now)
    talk.print("stopping at once" if now else "stopping after the current round")


@app.command(rich_help_panel=STUDIES)
def extend(
    hub: HubArgument,
    study: NamedStudy,
    rounds: Annotated[int, typer.Option(min=1, help="how many more")],
    output: Annotated[
        Path | None, typer.Option(help="where to write the new study; its id with .toml by default")
    ] = None,
) -> None:
    """Write a new study that goes on from where this one stands. Sites approve it as any other."""
    ledger = Ledger(Hub(hub).ledger)
    digest = named(ledger, study)
    longer = coordination.extension(ledger, digest, rounds)
    target = output or Path(f"{longer.id}.toml")
    if target.exists():
        raise Problem(str(target), "is there already", remedy="choose another --output")
    write_whole(target, written(longer).encode(), mode=0o644)
    coordination.draft(ledger, longer, ACTOR, extends=digest)
    out.print(f"{target}: study {longer.id}, a draft, digest {longer.digest()}", soft_wrap=True)
    talk.print(
        "What sites approve binds the number of rounds, so this is a new study: it begins with the encoder that "
        f"{ledger.study(digest).id} has now, and with new branches. Sites approve it (polyward-node approve), then it "
        "is queued (polyward-hub run)."
    )
    if ledger.study_state(digest)[0] not in {State.FINISHED, State.STOPPED, State.FAILED}:
        talk.print("[yellow]the study has not ended[/]: rounds that it does from now on are not part of the new one")
