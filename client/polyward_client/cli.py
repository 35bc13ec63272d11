"""`polyward-node`: what a hospital does."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from polyward_client.gains import print_gains
from polyward_client.site import Site, read_site
from polyward_client.status import read_status
from polyward_shared import pki
from polyward_shared.chain import read_chain
from polyward_shared.commands import new_app, out, run_app, talk
from polyward_shared.study import read_study

SiteArgument = Annotated[Path, typer.Argument(help="the site's file, site.toml", metavar="SITE")]
StateOption = Annotated[
    Path | None, typer.Option(help="the site's folder, if it is not its own: <results>/federated/sites/NAME")
]
StudyArgument = Annotated[Path, typer.Argument(help="the study's file, study.toml", metavar="STUDY")]

app = new_app("A hospital's node: images stay here, branches stay here, the encoder crosses.")


@app.command()
def key(site: SiteArgument) -> None:
    """Make this node's key and show what the coordinator needs."""
    place = read_site(site)
    public = place.state / "node.pub"
    if not place.key.exists():
        pki.write_secret(place.key, pki.key_to_pem(pki.new_key()))
    text = pki.public_pem(pki.read_key(place.key)).decode()
    public.write_text(text, encoding="utf-8")  # again each time: it may have been lost
    out.print(f"[bold]{place.name}[/]: public key in {public}")
    out.print(f"fingerprint [bold]{pki.fingerprint(text)}[/]  (compare it by telephone)")
    out.print(f"the coordinator runs: polyward-hub register HUB {place.name} {public.name}")


@app.command()
def check(
    site: SiteArgument,
    study: Annotated[Path | None, typer.Option(help="also train one real batch of each of its tasks")] = None,
) -> None:
    """Say what of the data will be used, what will not and why; with --study, train one real batch per task."""
    place, wanted = read_site(site), read_study(study) if study else None
    from polyward_client.trainer.check import run_check  # after reading: importing torch takes seconds

    if not run_check(place, wanted, out):
        raise typer.Exit(2)


@app.command()
def approve(site: SiteArgument, study: StudyArgument) -> None:
    """Allow a study to run here, after showing what will leave."""
    from polyward_client.approvals import leaving, write_approval
    from polyward_client.trainer.approve import make_approval

    place, wanted = read_site(site), read_study(study)
    approval = make_approval(wanted, place)
    out.print(f"[bold]{wanted.id}[/]  digest {wanted.digest()}", soft_wrap=True)
    out.print(f"trains here: {', '.join(approval.tasks)}")
    if (own := place.file.topology) is not None:
        out.print(f"topology: {own.kind}, this site's own choice; the study's is {wanted.topology.kind}")
    out.print("leaves here:")
    for line in leaving(approval):
        out.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    out.print(
        "stays here: every image, every label, every array and optimiser state that is not named above", soft_wrap=True
    )
    write_approval(place.approved, approval)
    out.print("[green]approved[/]")


@app.command()
def run(site: SiteArgument) -> None:
    """Work for the hub until stopped: gate and trainer as two processes, started again when they die."""
    from polyward_client.node import run_node

    logging.getLogger().setLevel(logging.INFO)
    run_node(read_site(site))


@app.command()
def stop(site: SiteArgument) -> None:
    """Stop the running node. Work in progress is kept."""
    from polyward_client.node import LOCK
    from polyward_shared.supervise import stop_holder

    place = read_site(site)
    stop_holder(place.state / LOCK, place.name)
    talk.print(f"{place.name} stopped")


@app.command()
def status(site: SiteArgument) -> None:
    """Show whether the node runs, reaches the hub, and what it does."""
    from polyward_client.node import LOCK
    from polyward_shared.supervise import holder

    place = read_site(site)
    pid = holder(place.state / LOCK)
    now = read_status(place)
    out.print(f"[bold]{place.name}[/]: {f'running (process {pid})' if pid else 'not running'}")
    if pid and now:
        out.print(f"hub: {now.get('link', 'unknown')}, {time.time() - now['at']:.0f} s ago")
        if progress := now.get("progress"):
            out.print(f"last work: {progress['phase']} {progress['epoch']}/{progress['epochs']}")
    approved = sorted(place.approved.glob("*.json"))
    out.print(f"approved studies: {', '.join(path.stem[:12] for path in approved) or 'none'}")


@app.command()
def sent(
    site: SiteArgument,
    as_json: Annotated[bool, typer.Option("--json", help="every line as JSON")] = False,
) -> None:
    """Show everything that ever left, and check that the record is whole."""
    place = read_site(site)
    entries = list(read_chain(place.sent))
    if as_json:
        for entry in entries:
            print(json.dumps(entry))
        return
    out.print(_sent_table(place, entries))
    out.print(f"{len(entries)} lines, chain whole")


def _sent_table(place: Site, entries: list[dict[str, object]]) -> Table:
    table = Table(title=f"what left {place.name}")
    for heading in ("when", "what", "round", "bytes", "sha256", "figures"):
        table.add_column(heading, justify="right" if heading in {"round", "bytes", "figures"} else "left", no_wrap=True)
    for entry in entries:
        figures = entry.get("metrics", [])
        table.add_row(
            str(entry["at"])[:16].replace("T", " "),
            str(entry.get("code") or entry["kind"]),
            str(entry["round"]),
            str(entry.get("bytes", 0)),
            str(entry.get("sha256", ""))[:8],
            str(len(figures) if isinstance(figures, list) else 0),
        )
    return table


@app.command()
def learning(
    site: SiteArgument,
    state: StateOption = None,
) -> None:
    """Show how training goes here: each task's loss, its weight, and which tasks pull apart. Nothing of it leaves."""
    place = read_site(site, state=state)
    from polyward_client.trainer.learning import print_learning

    if not print_learning(place, out):
        talk.print(f"nothing has been trained at {place.name} yet")


@app.command()
def gains(
    site: SiteArgument,
    state: StateOption = None,
) -> None:
    """Show what federation gave each task here, against training alone, from the figures that were sent."""
    place = read_site(site, state=state)
    if not print_gains(place, out):
        talk.print(f"{place.name} has sent no figures of an approved study yet; they come with the first round")


def main() -> None:
    run_app(app)
