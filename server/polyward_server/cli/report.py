"""`polyward-hub`: what a study did, as one document for people who were not there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyward_server.cli.app import STUDIES, HubArgument, app
from polyward_server.cli.naming import NamedStudy, named
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_server.writing import written
from polyward_shared.commands import out, talk


@app.command("report", rich_help_panel=STUDIES)
def report_command(
    hub: HubArgument,
    study: NamedStudy,
    output: Annotated[
        Path | None, typer.Option(help="a file that ends in .html or .pdf; the study's id with .html by default")
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="call sites by their names; by letters otherwise")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="exact numbers of labels and cases; steps otherwise")] = False,
    show: Annotated[bool, typer.Option("--open/--no-open", help="show it when it is written")] = False,
) -> None:
    """Write a study's report: one file with methods, receipts, figures, privacy and audit."""
    from polyward_server.report.reading import read_facts
    from polyward_server.report.writing import check_output, write_report

    place = Hub(hub)
    ledger = Ledger(place.ledger)
    digest = named(ledger, study)
    wanted = ledger.study(digest)
    target = output or Path(f"{wanted.id}-report.html")
    check_output(target)
    with talk.status("checking the record and writing the report"):
        facts = read_facts(ledger, Roster(ledger), place.file.name, digest, written(wanted), named=names, exact=exact)
        write_report(facts, target)
    out.print(str(target), soft_wrap=True)
    if show:
        typer.launch(str(target))
