"""`polyward-node`: seeing what left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from polyward_client.cli.app import PROOF, SiteArgument, StateOption, app
from polyward_client.gate.receipts import verify as check
from polyward_client.site import read_site
from polyward_client.transfers import chosen, in_full, totals, transfer_table
from polyward_shared.chain import read_chain
from polyward_shared.commands import out
from polyward_shared.study import read_study


@app.command(rich_help_panel=PROOF)
def sent(
    site: SiteArgument,
    study: Annotated[str, typer.Option(help="only of this study: its file, or the start of its digest")] = "",
    number: Annotated[int | None, typer.Option("--round", help="only of this round")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="every line as JSON")] = False,
    state: StateOption = None,
    full: Annotated[bool, typer.Option("--full", help="names and shapes of arrays, every figure")] = False,
) -> None:
    """Show everything that ever left, and check that the record is whole."""
    place = read_site(site, state=state)
    lines = list(read_chain(place.sent))
    wanted = chosen(lines, _digest(study), number)
    if as_json:
        for line in wanted:
            print(json.dumps(line))
        return
    if full:
        for text in in_full(place, wanted):
            out.print(text, soft_wrap=True, highlight=False, markup=False)
    else:
        out.print(transfer_table(wanted, f"what left {place.name}"))
    out.print(totals(lines))
    out.print(f"{len(lines)} lines, chain whole")


@app.command(rich_help_panel=PROOF)
def verify(site: SiteArgument) -> None:
    """Check that the record of everything sent is whole, and that it is the one the hub has signed receipts for."""
    place = read_site(site)
    lines, receipts = check(place)
    out.print(f"{lines} lines, chain whole; {receipts} receipts of the hub agree with it")
    if lines and not receipts:
        out.print("[yellow]no receipt yet[/]: the hub signs one soon after the node is online")


def _digest(study: str) -> str:
    return read_study(Path(study)).digest() if Path(study).suffix == ".toml" else study
