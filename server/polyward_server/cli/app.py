"""What all modules of the command line share: the application and its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyward_shared.commands import new_app

HubArgument = Annotated[Path, typer.Argument(help="the hub's folder", metavar="HUB")]
StudyArgument = Annotated[Path, typer.Argument(help="the study's file, study.toml", metavar="STUDY")]

# the panels of --help, in the order in which a coordinator needs them
HUB, CONTAINERS, SITES, STUDIES, ENCODERS = "the hub", "the hub in a container", "sites", "studies", "encoders"
TRACKING, HISTORY, KEEPING = "figures elsewhere", "trust the record", "keep it safe"
PEOPLE = "the dashboard's people"

app = new_app("The hub: asks hospitals for updates of one shared encoder, folds them, and remembers every round.")
