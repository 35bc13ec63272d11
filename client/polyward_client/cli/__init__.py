"""`polyward-node`: what a hospital does. Each module holds the commands of one panel of `--help`."""

from __future__ import annotations

# help shows panels in the order of these imports
# isort: off
from polyward_client.cli import joining, data, studies, running, containers, proof, models, keeping

# isort: on
from polyward_client.cli.app import app
from polyward_shared.commands import run_app

__all__ = ["containers", "data", "joining", "keeping", "main", "models", "proof", "running", "studies"]


def main() -> None:
    run_app(app)
