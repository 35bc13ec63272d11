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
from polyward_shared.pki import read_certificate
from polyward_shared.releases import check_release
from polyward_shared.statements import shown
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


@app.command("verify-release", rich_help_panel=PROOF)
def verify_release(
    file: Annotated[Path, typer.Argument(help="one of its two files; the other lies beside it", metavar="FILE")],
    authority: Annotated[Path | None, typer.Option(help="ca.pem of the hub that you trust")] = None,
    fingerprint: Annotated[str, typer.Option(help="SHA-256 of that certificate, told by somebody you trust")] = "",
) -> None:
    """Check an encoder that a hub has released: who signed it, and that not a byte has changed."""
    trusted = read_certificate(authority) if authority else None
    for part in shown(check_release(file, authority=trusted, fingerprint=fingerprint)):
        out.print(part, highlight=False)


def _digest(study: str) -> str:
    return read_study(Path(study)).digest() if Path(study).suffix == ".toml" else study
