"""`polyward-hub`: whether the record can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyward_server import audit
from polyward_server.cli.app import HISTORY, HubArgument, app
from polyward_server.history import check_checkpoints, check_receipts, check_record
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_shared.commands import out
from polyward_shared.problems import Problem


@app.command(rich_help_panel=HISTORY)
def verify(
    hub: HubArgument,
    sent: Annotated[Path | None, typer.Option(help="a site's record sent.jsonl, to compare with ours")] = None,
    receipts: Annotated[Path | None, typer.Option(help="a site's checkpoints.jsonl: what we have signed")] = None,
    site: Annotated[str, typer.Option(help="whose record --sent is")] = "",
    head: Annotated[str, typer.Option(help="a head that was kept elsewhere: the chain must still go through it")] = "",
) -> None:
    """Check the chain of events, and the history against what sites have signed and what it signed for them."""
    if sent is not None and not site:  # compared with the updates of no site, any record agrees
        raise Problem("--sent", "without the site whose record it is", expected="both", remedy="add --site SITE")
    place = Hub(hub)
    ledger = Ledger(place.ledger)
    with ledger.engine.connect() as db:
        events, newest = audit.verify(db)
        kept = audit.place_of(db, head) if head else 0
    out.print(f"{events} events are chained without a gap; the head is {newest}", soft_wrap=True)
    if head:
        out.print(f"the head that was kept is the one after event {kept}: nothing up to there was cut off or rewritten")
    out.print(f"{check_checkpoints(ledger)} signed checkpoints of sites agree with this history")
    if sent is not None:
        out.print(f"{check_record(ledger, site, sent)} updates of {site} are in {sent} as they are here")
    if receipts is not None:
        out.print(f"{check_receipts(ledger, place.ca, receipts)} receipts in {receipts} agree with this history")
