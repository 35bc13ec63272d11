"""`polyward-hub`: the hub in a container, kept by this machine's Docker engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status
from rich.table import Table

from polyward_server.cli.app import CONTAINERS, HubArgument, app
from polyward_server.hub import Hub
from polyward_shared.commands import out, talk
from polyward_shared.problems import Problem

if TYPE_CHECKING:
    from polyward_shared.containers import Engine, Wanted

VersionOption = Annotated[str, typer.Option("--image-version", help="of the images; that of this program by default")]


@app.command(rich_help_panel=CONTAINERS)
def up(hub: HubArgument, image_version: VersionOption = "") -> None:
    """Serve the hub from a container, and its gateway if hub.toml names one. It starts again with the machine."""
    from polyward_server.containers import bring_up

    _serve(hub, image_version, bring_up, "waiting until the hub answers")


@app.command(rich_help_panel=CONTAINERS)
def down(hub: HubArgument) -> None:
    """Stop the hub's containers and remove them. All that counts is in the hub's folder, and stays."""
    from polyward_server.containers import labels_of
    from polyward_shared.containers import connect, take_down

    place = Hub(hub)
    with Status("stopping", console=talk):
        gone = take_down(connect(), labels_of(place))
    if not gone:
        raise Problem(str(hub), "has no container here", remedy="polyward-hub stop ends one that is served without")
    talk.print(f"stopped: {', '.join(gone)}")


@app.command(rich_help_panel=CONTAINERS)
def update(hub: HubArgument, image_version: VersionOption = "") -> None:
    """Put containers of other images, or settings, in the place of those that run; if they fail, the old ones again.

    What a newer version has made of the ledger's tables stays so: make a backup first.
    """
    from polyward_server.containers import bring_up_to_date

    _serve(hub, image_version, bring_up_to_date, "waiting until the new hub answers")


@app.command(rich_help_panel=CONTAINERS)
def logs(
    hub: HubArgument, follow: Annotated[bool, typer.Option("-f", "--follow", help="go on with what comes")] = False
) -> None:
    """Show what the hub's containers have said last."""
    from polyward_server.containers import containers_of
    from polyward_shared.containers import connect
    from polyward_shared.containers import logs as lines_of

    place = Hub(hub)
    there = containers_of(connect(), place)
    if not there:
        raise Problem(str(hub), "has no container here", remedy=f"polyward-hub up {hub}")
    for name, line in lines_of(there, follow=follow):
        print(f"{name}  {line}" if len(there) > 1 else line, flush=True)


def _serve(hub: Path, version: str, bring: Callable[[Engine, Hub, Sequence[Wanted]], None], meanwhile: str) -> None:
    """Brings the containers of this version there, and shows where they listen."""
    from polyward_server.containers import places, wanted_of
    from polyward_shared.containers import connect

    place = Hub(hub)
    wanted = wanted_of(place, version)
    with Status(meanwhile, console=talk):
        bring(connect(), place, wanted)
    table = Table("container", "listens on")
    for name, address in places(wanted):
        table.add_row(name, address)
    out.print(table)
