"""`polyward-node`: looking at the site's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyward_client.cli.app import DATA, SiteArgument, app
from polyward_client.site import read_site
from polyward_shared.commands import out
from polyward_shared.study import read_study


@app.command(rich_help_panel=DATA)
def check(
    site: SiteArgument,
    study: Annotated[Path | None, typer.Option(help="also train one real batch of each of its tasks")] = None,
) -> None:
    """Say what of the data will be used, what will not and why; with --study, train one real batch per task."""
    place, wanted = read_site(site), read_study(study) if study else None
    from polyward_client.trainer.check import run_check  # after reading: importing torch takes seconds

    if not run_check(place, wanted, out):
        raise typer.Exit(2)
