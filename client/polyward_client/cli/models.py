"""`polyward-node`: using the models, and seeing how they do."""

from __future__ import annotations

from polyward_client.cli.app import MODELS, SiteArgument, StateOption, app
from polyward_client.gains import print_gains
from polyward_client.site import read_site
from polyward_shared.commands import out, talk


@app.command(rich_help_panel=MODELS)
def learning(
    site: SiteArgument,
    state: StateOption = None,
) -> None:
    """Show how training goes here: each task's loss, its weight, and which tasks pull apart. Nothing of it leaves."""
    place = read_site(site, state=state)
    from polyward_client.trainer.learning import print_learning

    if not print_learning(place, out):
        talk.print(f"nothing has been trained at {place.name} yet")


@app.command(rich_help_panel=MODELS)
def gains(
    site: SiteArgument,
    state: StateOption = None,
) -> None:
    """Show what federation gave each task here, against training alone, from the figures that were sent."""
    place = read_site(site, state=state)
    if not print_gains(place, out):
        talk.print(f"{place.name} has sent no figures of an approved study yet; they come with the first round")
