"""`polyward-hub`: what a coordinator does. Each module holds the commands of one panel of `--help`."""

from __future__ import annotations

from polyward_server.cli import history, hub, sites, studies
from polyward_server.cli.app import app
from polyward_shared.commands import run_app

__all__ = ["history", "hub", "main", "sites", "studies"]


def main() -> None:
    run_app(app)
