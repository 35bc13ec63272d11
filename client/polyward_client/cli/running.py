"""`polyward-node`: running the node."""

from __future__ import annotations

import logging
import time

from polyward_client.cli.app import RUN, SiteArgument, app
from polyward_client.node import run_node
from polyward_client.site import read_site
from polyward_client.status import read_status
from polyward_shared.commands import out, talk
from polyward_shared.supervise import holder, stop_holder


@app.command(rich_help_panel=RUN)
def run(site: SiteArgument) -> None:
    """Work for the hub until stopped: gate and trainer as two processes, started again when they die."""
    logging.getLogger().setLevel(logging.INFO)
    run_node(read_site(site))


@app.command(rich_help_panel=RUN)
def stop(site: SiteArgument) -> None:
    """Stop the running node. Work in progress is kept."""
    place = read_site(site)
    stop_holder(place.lock, place.name)
    talk.print(f"{place.name} stopped")


@app.command(rich_help_panel=RUN)
def status(site: SiteArgument) -> None:
    """Show whether the node runs, reaches the hub, and what it does."""
    place = read_site(site)
    pid = holder(place.lock)
    now = read_status(place)
    out.print(f"[bold]{place.name}[/]: {f'running (process {pid})' if pid else 'not running'}")
    if pid and now:
        out.print(f"hub: {now.get('link', 'unknown')}, {time.time() - now['at']:.0f} s ago")
        if progress := now.get("progress"):
            out.print(f"last work: {progress['phase']} {progress['epoch']}/{progress['epochs']}")
    approved = sorted(place.approved.glob("*.json"))
    out.print(f"approved studies: {', '.join(path.stem[:12] for path in approved) or 'none'}")
