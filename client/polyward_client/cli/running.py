"""`polyward-node`: running the node."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.status import Status

from polyward_client.cli.app import RUN, SiteArgument, app
from polyward_client.node import run_node
from polyward_client.parts import PARTS, become, make_folders
from polyward_client.site import read_site
from polyward_client.status import ADVICE, read_status
from polyward_shared.commands import out, talk
from polyward_shared.problems import Problem
from polyward_shared.study import read_study
from polyward_shared.supervise import holder, stop_holder


@app.command(rich_help_panel=RUN)
def run(site: SiteArgument) -> None:
    """Work for the hub until stopped: gate and trainer as two processes, started again when they die."""
    logging.getLogger().setLevel(logging.INFO)
    run_node(read_site(site))


@app.command(rich_help_panel=RUN)
def preflight(
    site: SiteArgument,
    study: Annotated[Path | None, typer.Option(help="also train one real batch of each of its tasks")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the findings as JSON")] = False,
) -> None:
    """Try everything that the node needs of network and machine, and say what to do about what fails."""
    from polyward_client.preflight import findings, print_findings, to_json

    place, wanted = read_site(site), read_study(study) if study else None
    found = []
    with Status("looking", console=talk) as status:
        for finding in findings(place, wanted):
            status.update(f"{finding.what} done")
            found.append(finding)
    if as_json:
        print(to_json(found))
    else:
        print_findings(found, out)
    if any(finding.verdict == "FAIL" for finding in found):
        raise typer.Exit(2)


@app.command(rich_help_panel=RUN)
def service(
    site: SiteArgument,
    two_users: Annotated[bool, typer.Option("--two-users", help="a unit for each process, as its own user")] = False,
    user: Annotated[str, typer.Option(help="who runs the one unit")] = "polyward",
) -> None:
    """Print the systemd unit that keeps the node running; with --two-users, one for the gate, one for the trainer."""
    from polyward_client.service import check_two_users, place_of, units

    place = read_site(site)
    if two_users:
        check_two_users(place)
    for name, text in units(place_of(place, user), two_users=two_users).items():
        print(f"# /etc/systemd/system/{name}\n{text}")


@app.command(rich_help_panel=RUN)
def folders(site: SiteArgument) -> None:
    """Make the site's folders, with their owners where the site's file names two users (as root)."""
    place = read_site(site)
    make_folders(place)
    talk.print(f"{place.state} is ready", soft_wrap=True)


@app.command(rich_help_panel=RUN, hidden=True)
def part(site: SiteArgument, which: Annotated[str, typer.Argument(metavar="gate|trainer")]) -> None:
    """Become the gate or the trainer alone, as the systemd units for two users do."""
    if which not in PARTS:
        raise Problem("part", f"found {which!r}", expected="gate or trainer")
    become(read_site(site), which)


@app.command(rich_help_panel=RUN)
def stop(site: SiteArgument) -> None:
    """Stop the running node at the end of the batch that it trains. What is finished is kept."""
    place = read_site(site)
    stop_holder(place.lock, place.name, down=f"polyward-node down {site}")
    talk.print(f"{place.name} stopped")


@app.command(rich_help_panel=RUN)
def status(site: SiteArgument) -> None:
    """Show whether the node runs, reaches the hub, and what it does."""
    place = read_site(site)
    held = holder(place.lock)
    now = read_status(place)
    out.print(f"[bold]{place.name}[/]: {f'running ({held})' if held else 'not running'}")
    if held and now:
        out.print(f"hub: {now.get('link', 'unknown')}, {time.time() - now['at']:.0f} s ago")
        if progress := now.get("progress"):
            out.print(f"last work: {progress['phase']} {progress['epoch']}/{progress['epochs']}")
        if refused := now.get("refused"):
            out.print(f"last refusal: {refused}; {ADVICE.get(refused, 'the log says more')}", soft_wrap=True)
    approved = sorted(place.approved.glob("*.json"))
    out.print(f"approved studies: {', '.join(path.stem[:12] for path in approved) or 'none'}")
