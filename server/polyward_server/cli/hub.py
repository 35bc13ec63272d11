"""`polyward-hub`: the hub itself."""

from __future__ import annotations

import logging
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from polyward_server.cli.app import HUB, HubArgument, app
from polyward_server.contacts import read_contacts
from polyward_server.hub import Hub, init, is_loopback, serve
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_server.roster import Roster
from polyward_shared import pki
from polyward_shared.commands import out, talk
from polyward_shared.supervise import holder, stop_holder, stop_on_signals


@app.command("init", rich_help_panel=HUB)
def init_command(
    hub: HubArgument,
    host: Annotated[str, typer.Option(help="the name or address that sites will use")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="for orders, updates and enrolment")] = 8443,
    control_port: Annotated[int | None, typer.Option(help="for the control plane; the next one by default")] = None,
    dashboard_host: Annotated[
        str, typer.Option(help="where the dashboard listens; by default for this machine alone")
    ] = "127.0.0.1",
    dashboard_port: Annotated[int | None, typer.Option(help="of the dashboard; the second next one by default")] = None,
    gateway: Annotated[
        str, typer.Option(help="host:port that sites use for both, such as hub.example.org:443; see deploy/gateway")
    ] = "",
    name: Annotated[str, typer.Option(help="shown to sites")] = "polyward hub",
) -> None:
    """Make a hub: its certificate authority, server certificate, secrets and empty ledger."""
    made = init(
        hub,
        name=name,
        host=host,
        port=port,
        control_port=control_port,
        dashboard_host=dashboard_host,
        dashboard_port=dashboard_port,
        gateway=gateway,
    )
    Ledger(made.ledger).close()
    out.print(f"[green]made[/] {made.folder}")
    if not gateway and is_loopback(host):
        out.print(f"[yellow]{host} is this machine alone[/]: sites elsewhere need another --host, or a --gateway")
    out.print(f"then: polyward-hub serve {hub}, for yourself: polyward-hub user add {hub} NAME --role admin")
    out.print(f"and for every site: polyward-hub invite {hub} SITE")


@app.command("serve", rich_help_panel=HUB)
def serve_command(hub: HubArgument) -> None:
    """Run the hub until stopped: the way to the sites, the studies in the queue, and the dashboard."""
    logging.getLogger().setLevel(logging.INFO)
    place = Hub(hub)
    serve(place, stop_on_signals())


@app.command(rich_help_panel=HUB)
def stop(hub: HubArgument) -> None:
    """Stop the running hub. Studies go on where they were when it is served again."""
    place = Hub(hub)
    stop_holder(place.lock, str(hub), down=f"polyward-hub down {hub}")
    talk.print("stopped")


@app.command(rich_help_panel=HUB)
def status(hub: HubArgument) -> None:
    """Show the hub's sites and studies."""
    place = Hub(hub)
    held = holder(place.lock)
    ledger = Ledger(place.ledger)
    out.print(f"[bold]{place.file.name}[/] {f'serving ({held})' if held else 'not serving'}")
    roster = Roster(ledger)
    contacts = read_contacts(ledger)
    for name, public in roster.keys().items():
        here = held and name in contacts and contacts[name].connected
        out.print(f"site {name}: {'here' if here else 'away'}, key {pki.fingerprint(public)}")
    table = Table("study", "state", "rounds", "sites", "encoder")
    for digest in ledger.studies_in(*State):
        study, last = ledger.study(digest), ledger.last_round(digest)
        state, reason = ledger.study_state(digest)
        table.add_row(
            f"{study.id} {digest[:8]}",
            escape(f"{state}: {reason}" if reason else state),
            f"{last.number if last else 0}/{study.rounds}",
            str(len(ledger.members(digest))),
            last.encoder[:16] if last else "",
        )
    out.print(table)
