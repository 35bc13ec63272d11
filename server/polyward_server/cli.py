"""`polyward-hub`: what a coordinator does."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from polyward_server.gains import gain_table, gains
from polyward_server.hub import Hub, init, serve
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.registry import Registry
from polyward_shared import pki
from polyward_shared.commands import new_app, out, run_app, talk
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, validated
from polyward_shared.study import Name, read_study
from polyward_shared.supervise import holder, stop_holder, stop_on_signals

HubArgument = Annotated[Path, typer.Argument(help="the hub's folder", metavar="HUB")]
StudyArgument = Annotated[Path, typer.Argument(help="the study's file, study.toml", metavar="STUDY")]


class Registration(Frozen):
    """A site's name follows the same rule as in its own file."""

    site: Name


app = new_app("The hub: asks hospitals for updates of one shared encoder, folds them, and remembers every round.")


@app.command("init")
def init_command(
    hub: HubArgument,
    host: Annotated[str, typer.Option(help="the name or address that sites will use")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="the one port that sites reach")] = 8443,
    name: Annotated[str, typer.Option(help="shown to sites")] = "polyward hub",
) -> None:
    """Make a hub: its certificate authority, server certificate, secrets and empty ledger."""
    made = init(hub, name=name, host=host, port=port)
    Ledger(made.ledger).close()
    out.print(f"[green]made[/] {made.folder}")
    out.print(f"give every site this file: {made.ca}")
    out.print(f"then: polyward-hub register {hub} SITE node.pub, and polyward-hub serve {hub}")


@app.command()
def register(
    hub: HubArgument,
    site: Annotated[str, typer.Argument(help="the site's name")],
    public_key: Annotated[Path, typer.Argument(help="the site's node.pub")],
) -> None:
    """Admit a site by its public key. Works while the hub runs."""
    validated({"site": site}, Registration, where="polyward-hub register")
    public = pki.read_public_pem(public_key)
    Ledger(Hub(hub).ledger).register_site(site, public)
    out.print(f"[green]registered[/] {site}, fingerprint {pki.fingerprint(public)}")


@app.command("serve")
def serve_command(hub: HubArgument) -> None:
    """Run the hub until stopped: Flower's SuperLink behind our door, and the studies in the queue."""
    logging.getLogger().setLevel(logging.INFO)
    place = Hub(hub)
    talk.print(f"hub {place.file.name} on {place.file.host}:{place.file.port}; stop with Ctrl-C")
    serve(place, stop_on_signals())


@app.command()
def stop(hub: HubArgument) -> None:
    """Stop the running hub. Studies go on where they were when it is served again."""
    place = Hub(hub)
    stop_holder(place.lock, str(hub))
    talk.print("stopped")


@app.command("run")
def run_command(
    hub: HubArgument,
    study: StudyArgument,
    follow: Annotated[bool, typer.Option(help="watch until it ends; Ctrl-C stops watching, not the study")] = True,
) -> None:
    """Queue a study on the running hub and watch it. A stopped or failed study goes on after its last round."""
    place, wanted = Hub(hub), read_study(study)
    ledger = Ledger(place.ledger)
    if not ledger.site_keys():
        raise Problem(str(hub), "no site is registered", remedy=f"polyward-hub register {hub} SITE node.pub")
    digest = ledger.queue(wanted)
    talk.print(f"study {wanted.id}  digest {digest}")
    if holder(place.lock) is None:
        talk.print(f"[yellow]the hub is not running[/]; the study waits: polyward-hub serve {hub}")
    if follow and not _follow(ledger, digest, wanted.rounds):
        raise typer.Exit(2)


@app.command()
def end(hub: HubArgument, study: StudyArgument) -> None:
    """Stop a running or queued study after its current round; `run` goes on with it."""
    ledger = Ledger(Hub(hub).ledger)
    digest = read_study(study).digest()
    if digest not in ledger.studies_in("running", "queued"):
        raise Problem(str(study), "is neither running nor queued here")
    ledger.set_state(digest, "stopped")
    talk.print("stopping after the current round")


@app.command()
def status(hub: HubArgument) -> None:
    """Show the hub's sites and studies."""
    place = Hub(hub)
    pid = holder(place.lock)
    ledger = Ledger(place.ledger)
    out.print(f"[bold]{place.file.name}[/] {f'serving (process {pid})' if pid else 'not serving'}")
    for name, public in ledger.site_keys().items():
        out.print(f"site {name}: key {pki.fingerprint(public)}")
    table = Table("study", "state", "rounds", "sites", "encoder")
    for digest in ledger.studies_in("queued", "running", "finished", "stopped", "failed"):
        study, last = ledger.study(digest), ledger.last_round(digest)
        state, reason = ledger.study_state(digest)
        table.add_row(
            f"{study.id} {digest[:8]}",
            f"{state} {reason}".strip(),
            f"{last.number if last else 0}/{study.rounds}",
            str(len(ledger.members(digest))),
            last.encoder[:16] if last else "",
        )
    out.print(table)


@app.command("gains")
def gains_command(hub: HubArgument, study: StudyArgument) -> None:
    """Show what federation gave every site and task, against training alone."""
    wanted = read_study(study)
    rows = list(gains(Ledger(Hub(hub).ledger), wanted))
    if not rows:
        raise Problem(
            str(study),
            "no site has reported figures of both models here",
            remedy="wait for a measured round; personal.alone must be true, and the splits large enough",
        )
    out.print(gain_table(rows))
    better = sum(row.gain > 0 for row in rows)
    out.print(f"federated better in {better} of {len(rows)}; one study, one seed: other patients may say otherwise")


@app.command("import")
def import_command(
    hub: HubArgument,
    encoder: Annotated[Path, typer.Argument(help="a safetensors file of `encoder.` arrays")],
    volumes: Annotated[bool, typer.Option(help="inflate an encoder of slices for a study of volumes")] = False,
) -> None:
    """Put an encoder into the registry; its digest goes into a study as encoder.start."""
    out.print(Registry(Hub(hub).registry).import_file(encoder, volumes=volumes))


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
            if state in {"finished", "failed", "stopped"}:
                break
            time.sleep(0.2)
    talk.print(f"{state} {reason}".strip())
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


def main() -> None:
    run_app(app)
