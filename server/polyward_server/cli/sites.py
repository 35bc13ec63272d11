"""`polyward-hub`: who takes part."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from polyward_server import admission
from polyward_server.bundle import write_bundle
from polyward_server.cli.app import SITES, HubArgument, app
from polyward_server.contacts import read_contacts
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared import pki
from polyward_shared.commands import out, talk
from polyward_shared.invitation import ends, written
from polyward_shared.problems import Problem
from polyward_shared.supervise import holder

SiteName = Annotated[str, typer.Argument(help="the site's name", metavar="SITE")]
ACTOR = "command line"


@app.command("invite", rich_help_panel=SITES)
def invite_command(
    hub: HubArgument,
    site: SiteName,
    hours: Annotated[float, typer.Option(help="how long it is good", min=0.01, max=24 * 90)] = 72.0,
    output: Annotated[
        Path | None, typer.Option(help="write it to this new file, or folder with --bundle, for you alone")
    ] = None,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="a folder that the site starts with Docker: invitation, settings, README")
    ] = False,
    pre_approved: Annotated[
        bool, typer.Option(help="whoever holds it gets the certificate at once, without comparing fingerprints")
    ] = False,
) -> None:
    """Make an invitation for a site, good once. Send it as you would send a password. Works while the hub runs."""
    place = Hub(hub)
    roster = _roster(place)
    if output is not None and output.exists():
        raise Problem(str(output), "exists already", remedy="choose another name")
    invite = partial(admission.invite, place, roster, site, hours=hours, approved=pre_approved, actor=ACTOR)
    if bundle:
        folder = output or Path(site)
        invitation = write_bundle(folder, place, site, invite)
        talk.print(f"all that {site} needs in {folder}; tar keeps its modes")
    else:
        invitation = invite()
        if output is None:
            print(written(invitation))
        else:
            pki.write_secret(output, written(invitation).encode() + b"\n")
            talk.print(f"invitation for {site} in {output}")
    keys = roster.keys()
    if site in keys:
        talk.print(f"[yellow]{site} takes part already[/]; a new key will take the place of its present one")
    there = "README.md in that folder says how to go on" if bundle else "polyward-node enrol FILE"
    talk.print(f"good once, until {ends(invitation):%Y-%m-%d %H:%M} UTC; at the site: {there}")
    if holder(place.lock) is None:
        talk.print(f"[yellow]the hub is not running[/]: polyward-hub serve {hub}")


@app.command("sites", rich_help_panel=SITES)
def sites_command(hub: HubArgument) -> None:
    """Show every site: what it does, its certificate, its last contact and its software."""
    ledger = Ledger(Hub(hub).ledger)
    roster = Roster(ledger)
    table = Table("site", "state", "work", "certificate", "last contact", "software")
    contacts, keys = read_contacts(ledger), roster.keys()
    for asked in roster.waiting(approved=False):
        table.add_row(asked.site, "[yellow]asks to join[/]", "", "", "", "")
    for name in keys:
        contact, issued = contacts.get(name), roster.newest(name)
        here = contact is not None and contact.connected
        state = str(contact.status.get("state", "here")) if contact is not None and here else "away"
        table.add_row(
            name,
            f"[green]{state}[/]" if here else state,
            _work(contact.status.get("work", {})) if contact and here else "",
            f"{(issued.expires - time.time()) / 86400:.1f} days" if issued else "none",
            _ago(contact.at) if contact else "never",
            contact.software if contact else "",
        )
    for name, when in roster.revoked().items():
        table.add_row(name, "[red]revoked[/]", "", "", when[:16].replace("T", " "), "")
    out.print(table)


@app.command(rich_help_panel=SITES)
def approve(
    hub: HubArgument,
    site: SiteName,
    fingerprint: Annotated[
        str | None, typer.Option(help="as the site read it out; without it you are shown it and asked")
    ] = None,
) -> None:
    """Let a site in that has used its invitation, after comparing its fingerprint by telephone."""
    roster = _roster(Hub(hub))
    if fingerprint is None:
        fingerprint = admission.fingerprint_of(admission.request_of(roster, site))
        out.print(
            f"[bold]{site}[/] asks with a key of this fingerprint:\n\n    [bold]{fingerprint}[/]\n", highlight=False
        )
        if not typer.confirm("does the site read out the same?"):
            raise Problem(site, "was not approved", remedy=f"polyward-hub reject {hub} {site} ends its request")
    admission.approve(roster, site, fingerprint, actor=ACTOR)
    out.print(f"[green]approved[/] {site}")


@app.command(rich_help_panel=SITES)
def reject(hub: HubArgument, site: SiteName) -> None:
    """Turn a request down. The invitation is good no more."""
    admission.reject(_roster(Hub(hub)), site, actor=ACTOR)
    out.print(f"rejected {site}")


@app.command(rich_help_panel=SITES)
def revoke(hub: HubArgument, site: SiteName) -> None:
    """Put a site out at once: its certificate, its key and its open connections. What it contributed stays."""
    admission.revoke(_roster(Hub(hub)), site, actor=ACTOR)
    out.print(f"[red]revoked[/] {site}; a new invitation and a new key bring it back")


def _roster(hub: Hub) -> Roster:
    return Roster(Ledger(hub.ledger))


def _ago(at: float) -> str:
    seconds = max(0, int(time.time() - at))
    for size, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {word} ago"
    return f"{seconds} seconds ago"


def _work(work: dict[str, object]) -> str:
    if not work.get("study"):
        return ""
    course = f" {work['done']}/{work['of']}" if work["of"] else ""  # where it is known how much there is to do
    return f"round {work['round']}: {work['phase']}{course}"
