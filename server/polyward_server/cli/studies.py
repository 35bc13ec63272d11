"""`polyward-hub`: studies and what came of them."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from polyward_server import coordination
from polyward_server.cli.app import STUDIES, HubArgument, StudyArgument, app
from polyward_server.cli.naming import ACTOR, NamedStudy, named
from polyward_server.gains import gain_table, gains
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import ENDED, Event, State
from polyward_server.roster import Roster
from polyward_shared.commands import out, talk
from polyward_shared.problems import Problem
from polyward_shared.study import read_study
from polyward_shared.supervise import holder


@app.command("run", rich_help_panel=STUDIES)
def run_command(
    hub: HubArgument,
    study: StudyArgument,
    follow: Annotated[bool, typer.Option(help="watch until it ends; Ctrl-C stops watching, not the study")] = True,
) -> None:
    """Queue a study and watch it. A draft begins; a stopped or failed study goes on after its last round."""
    place, wanted = Hub(hub), read_study(study)
    ledger = Ledger(place.ledger)
    if not Roster(ledger).keys():
        raise Problem(str(hub), "no site has joined", remedy=f"polyward-hub invite {hub} SITE")
    digest = coordination.enqueue(ledger, wanted, ACTOR)
    talk.print(f"study {wanted.id}  digest {digest}", soft_wrap=True)
    if holder(place.lock) is None:
        talk.print(f"[yellow]the hub is not running[/]; the study waits: polyward-hub serve {hub}")
    if follow and not _follow(ledger, digest, wanted.rounds):
        raise typer.Exit(2)


@app.command("gains", rich_help_panel=STUDIES)
def gains_command(hub: HubArgument, study: NamedStudy) -> None:
    """Show what federation gave every site and task, against training alone."""
    ledger = Ledger(Hub(hub).ledger)
    rows = list(gains(ledger, ledger.study(named(ledger, study))))
    if not rows:
        raise Problem(
            study,
            "no site has reported figures of both models here",
            remedy="wait for a measured round; personal.alone must be true, and the splits large enough",
        )
    out.print(gain_table(rows))
    better, worse = (sum(sign * row.gain > 0 for row in rows) for sign in (1, -1))
    told = f"federated better in {better} of {len(rows)}, worse in {worse}"
    out.print(f"{told}; one study, one seed: other patients may say otherwise", soft_wrap=True)
    if any(row.kept for row in rows):
        out.print("kept: the better one on the site's validation cases, which need not be the better one here")


def _follow(ledger: Ledger, digest: str, rounds: int) -> bool:
    """Prints events until the study ends; True when it finished."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    seen = 0
    with Progress(*columns, console=talk) as progress:
        bar = progress.add_task("rounds", total=rounds)
        while True:
            state, reason = ledger.study_state(digest)
            for number, event in ledger.events_after(seen, digest):
                seen = number
                progress.update(bar, completed=event.round if event.what == "committed" else None)
                if line := sentence(event):
                    progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
            if state in ENDED or state == State.PAUSED:
                break
            time.sleep(0.2)
    talk.print(f"{state} {reason}".strip(), markup=False)
    return state == "finished"


def sentence(event: Event) -> str:
    """An event as a line for people, or nothing for those that only a log needs."""
    where = f"round {event.round:>3}  {event.site or 'hub':<16}"
    match event.what:
        case "asked":
            return ""
        case "committed":
            return f"{where} encoder {event.detail[:16]}"
        case _:
            return f"{where} {event.what} {event.detail}".rstrip()
