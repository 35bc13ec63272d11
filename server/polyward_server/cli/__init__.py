"""`polyward-hub`: what a coordinator does. Each module holds the commands of one panel of `--help`."""

from __future__ import annotations

# help shows panels in the order of these imports
# isort: off
from polyward_server.cli import (
    hub,
    containers,
    sites,
    studies,
    queue,
    report,
    encoders,
    releases,
    tracking,
    history,
    keeping,
    users,
)

# isort: on
from polyward_server.cli.app import app
from polyward_shared.commands import run_app

__all__ = [
    "containers",
    "encoders",
    "history",
    "hub",
    "keeping",
    "main",
    "queue",
    "releases",
    "report",
    "sites",
    "studies",
    "tracking",
    "users",
]


def main() -> None:
    run_app(app)
