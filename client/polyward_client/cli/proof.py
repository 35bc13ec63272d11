"""`polyward-node`: seeing what left."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from polyward_client.cli.app import PROOF, SiteArgument, app
from polyward_client.site import Site, read_site
from polyward_shared.chain import read_chain
from polyward_shared.commands import out


@app.command(rich_help_panel=PROOF)
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
