"""`polyward-node`: the node in containers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from polyward_client.cli.app import CONTAINERS, RUN, SiteArgument, app
from polyward_client.containers.running import Standing, around, bring_up, down, planned, prepare, renewed, run_once
from polyward_client.containers.wanted import PARTS, check_folders, name_of
from polyward_client.health import does_well
from polyward_client.site import read_site
from polyward_shared.commands import out, talk
from polyward_shared.containers import connect, found, logs
from polyward_shared.problems import Problem

HEALTHY_SECONDS = 180.0
VersionOption = Annotated[str, typer.Option(help="of the images; the same as this program's by default")]
PatienceOption = Annotated[float, typer.Option(help="seconds for the containers to become healthy", min=1)]


@app.command("up", rich_help_panel=CONTAINERS)
def up_(
    site: SiteArgument,
    image_version: VersionOption = "",
    wait: PatienceOption = HEALTHY_SECONDS,
) -> None:
    """Run the node as sealed containers: trainer, gate, and the way to the hub. What runs as wanted stays."""
    place, engine = read_site(site), connect()
    wanted = planned(place, engine, image_version, os.environ)
    with Status("waiting until the hub is reached and the trainer is ready", console=talk):
        standing = bring_up(place, engine, wanted, wait)
    _print_standing(standing)
    if other := [one for one in standing if one.state.startswith(("another", "other"))]:
        out.print(f"{', '.join(one.name for one in other)}: polyward-node update {site} renews", soft_wrap=True)


@app.command("down", rich_help_panel=CONTAINERS)
def down_(site: SiteArgument) -> None:
    """Stop the node's containers after the batch that they train, and remove them. All that the site keeps stays."""
    place = read_site(site)
    with Status("stopping", console=talk):
        names = down(place, connect())
    talk.print(
        f"{', '.join(names)} stopped and removed" if names else f"{place.name} has no containers", soft_wrap=True
    )


@app.command("logs", rich_help_panel=CONTAINERS)
def logs_(
    site: SiteArgument,
    part: Annotated[str, typer.Argument(help="only of this one", metavar="[gate|trainer|way]")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with what comes")] = False,
    lines: Annotated[int, typer.Option(help="the last ones of each", min=0)] = 100,
) -> None:
    """Show what the node's containers have written."""
    if part and part not in PARTS:
        raise Problem("logs", f"found {part!r}", expected="gate, trainer or way")
    place, engine = read_site(site), connect()
    there = [one for name in PARTS if part in {"", name} and (one := found(engine, name_of(place, name)))]
    if not there:
        raise Problem(place.name, "has no such container", remedy=f"polyward-node up {site}")
    for name, line in logs(there, follow=follow, lines=lines):
        print(line if part else f"{name.removeprefix(name_of(place, '')):8}{line}", flush=follow)


@app.command("update", rich_help_panel=CONTAINERS)
def update_(
    site: SiteArgument,
    version: VersionOption = "",
    wait: PatienceOption = HEALTHY_SECONDS,
) -> None:
    """Renew the containers, from images of another version or with changed settings; identity and vault stay.

    If the new ones are not healthy in time, the old ones run again.
    """
    place, engine = read_site(site), connect()
    wanted = planned(place, engine, version, os.environ)
    with Status("stopping the old ones after their batch, waiting until the new ones are healthy", console=talk):
        standing = renewed(place, engine, wanted, wait)
    _print_standing(standing)


@app.command("within", rich_help_panel=CONTAINERS, context_settings={"allow_interspersed_args": False})
def within_(
    site: SiteArgument,
    command: Annotated[list[str], typer.Argument(help="another command of polyward-node, after --", metavar="COMMAND")],
    write: Annotated[
        list[Path] | None, typer.Option(help="a folder that the command may write into; may be given several times")
    ] = None,
    image_version: VersionOption = "",
) -> None:
    """Run another command in a container without a network, for machines without torch.

    polyward-node within SITE -- check SITE --study STUDY

    Files that are named are read-only in there, as are the images. 'manifest' writes beside the images: it needs
    --write DATA. 'predict' and 'export' make a new folder: with --write FOLDER its name counts from FOLDER on.
    Nobody can be asked in there: read what 'approve' shows, and repeat it with --yes.
    """
    place, engine = read_site(site), connect()
    for folder in write or ():
        if not folder.is_dir():
            raise Problem(str(folder), "there is no such folder", remedy="make it first")
    check_folders(place)
    surroundings = around(place, engine, image_version, {**os.environ, "COLUMNS": str(talk.width)})
    prepare(place, engine, surroundings.user)
    raise typer.Exit(run_once(place, engine, surroundings, tuple(command), tuple(write or ())))


@app.command(rich_help_panel=RUN, hidden=True)
def way(site: SiteArgument) -> None:
    """Become the proxy that leads to the hub and nowhere else, as in the container of that name."""
    from polyward_client.gate.way import become_the_way

    become_the_way(read_site(site), Path("/tmp"))  # noqa: S108  # of the container


@app.command(rich_help_panel=RUN, hidden=True)
def health(site: SiteArgument, which: Annotated[str, typer.Argument(metavar="gate|trainer|way")]) -> None:
    """Whether the gate is online, the trainer takes calls, the way is in order: exit code 0 or 1."""
    if which not in PARTS:
        raise Problem("health", f"found {which!r}", expected="gate, trainer or way")
    sys.exit(0 if does_well(read_site(site).state, which) else 1)


def _print_standing(standing: list[Standing]) -> None:
    table = Table("container", "image", "state", "healthy after")
    for column in table.columns:
        column.overflow = "fold"
    for one in standing:
        after = "" if one.seconds is None else f"{one.seconds:.1f} s"
        table.add_row(escape(one.name), escape(one.image), one.state, after)
    out.print(table)
