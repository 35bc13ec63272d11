"""What all modules of the command line share: the application and its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyward_shared.commands import new_app

SiteArgument = Annotated[Path, typer.Argument(help="the site's file, site.toml", metavar="SITE")]
StateOption = Annotated[
    Path | None, typer.Option(help="the site's folder, if it is not its own: <results>/federated/sites/NAME")
]
StudyArgument = Annotated[Path, typer.Argument(help="the study's file, study.toml", metavar="STUDY")]

# the panels of --help, in the order in which a hospital needs them
JOIN, DATA, STUDIES, RUN, CONTAINERS, PROOF, MODELS, KEEP = (
    "join a federation",
    "look at the data",
    "decide what may run",
    "run the node",
    "run the node in containers",
    "see what left",
    "use the models",
    "keep what was trained",
)

app = new_app("A hospital's node: images stay here, branches stay here, the encoder crosses.")
