"""`polyward-hub`: keeping the hub safe, and small."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.table import Table

from polyward_server import backup as backups
from polyward_server.cli.app import KEEPING, HubArgument, app
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.migration import migrate as bring_up
from polyward_server.registry import Registry
from polyward_server.restore import restore as make_from
from polyward_server.retention import forget_sign_ins, remove, unneeded
from polyward_server.sealing import read_passphrase
from polyward_shared.commands import bar, out, talk, writing
from polyward_shared.problems import Problem
from polyward_shared.supervise import only_one

ACTOR = "command line"

PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="a file whose first line is the passphrase that seals it")
]


@app.command(rich_help_panel=KEEPING)
def backup(
    hub: HubArgument,
    file: Annotated[Path, typer.Argument(help="the file to write", metavar="FILE")],
    passphrase: PassphraseOption = None,
) -> None:
    """Copy ledger, registry, settings and secrets into one file. The hub may run meanwhile."""
    place = Hub(hub)
    secret = read_passphrase(passphrase) if passphrase else None
    with _writing(), bar("copying") as told:
        manifest = backups.write_backup(place, file, passphrase=secret, told=told)
    size = f"{len(manifest.parts)} parts, {manifest.bytes / 1e6:.1f} MB"
    out.print(f"[green]{size}[/] in {file}, up to event {manifest.events}", soft_wrap=True)
    if secret is None:
        talk.print(
            "[bold red]this file holds the hub's keys:[/] who has it can be this hub towards its sites. Keep it as "
            "safe as they are, or seal it with --passphrase-file.",
            soft_wrap=True,
        )


@app.command(rich_help_panel=KEEPING)
def restore(
    file: Annotated[Path, typer.Argument(help="what `backup` wrote", metavar="FILE")],
    folder: Annotated[Path, typer.Argument(help="the hub's new folder", metavar="FOLDER")],
    passphrase: PassphraseOption = None,
    database: Annotated[
        str | None,
        typer.Option(help="where the ledger is to go: postgresql://user@host/name, or ledger.db for a file in FOLDER"),
    ] = None,
    password: Annotated[
        Path | None, typer.Option("--password-file", help="a file whose first line is that database's password")
    ] = None,
) -> None:
    """Make a hub's folder from a backup. All of it, or nothing."""
    if password is not None and database is None:
        raise Problem("--password-file", "without the database that it is for", remedy="add --database")
    secret = read_passphrase(passphrase) if passphrase else None
    opens = password.read_text(encoding="utf-8").split("\n")[0] if password else None
    with _writing(), bar("checking") as told:
        place, manifest = make_from(file, folder, passphrase=secret, database=database, password=opens, told=told)
    when = manifest.at.replace("T", " ")[:16]
    out.print(f"[green]{place.file.name}[/] is in {folder} as it was on {when} UTC", soft_wrap=True)
    talk.print(f"stop the old one before: polyward-hub serve {folder}", soft_wrap=True)
    talk.print("a site that went further than this backup refuses its rounds until it approves the study again")


@app.command(rich_help_panel=KEEPING)
def migrate(hub: HubArgument) -> None:
    """Bring an earlier polyward's ledger to this version, after a copy. `serve` does the same when it starts."""
    place = Hub(hub)
    descriptor = only_one(place.lock, str(hub))
    try:
        with _writing():
            copy = bring_up(place.ledger)
    finally:
        os.close(descriptor)
    out.print(f"the ledger is this version's{f'; as it was: {copy}' if copy else ''}", soft_wrap=True)


@app.command(rich_help_panel=KEEPING)
def prune(
    hub: HubArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be removed")] = False,
) -> None:
    """Remove states of ended studies' rounds as \\[retention] of hub.toml says, and old sign-ins."""
    place = Hub(hub)
    kept = place.file.retention
    ledger, registry = Ledger(place.ledger), Registry(place.registry)
    with _writing(), backups.kept_together(place):
        found = unneeded(ledger, registry, kept.keep_rounds) if kept.keep_rounds != "all" else []
        table = Table("study", "rounds", "states", "MB")
        for each in found:
            rounds = f"{each.rounds[0]} to {each.rounds[-1]}"
            table.add_row(each.study[:12], rounds, str(len(each.digests)), f"{each.bytes / 1e6:.1f}")
        if found:
            out.print(table)
        else:
            out.print(f"no states to remove (keep_rounds = {kept.keep_rounds} in hub.toml)")
        if dry_run:
            return
        remove(ledger, registry, found, actor=ACTOR)
        out.print(f"removed, with {forget_sign_ins(ledger, kept.sign_ins_days)} old sign-ins")


@contextmanager
def _writing() -> Iterator[None]:
    """A full disk, a missing permission or a lost database is told as such."""
    try:
        with writing():
            yield
    except sa.exc.OperationalError as error:
        raise Problem(
            "the ledger's database", f"failed ({error.orig})", remedy="see to it, then run this again"
        ) from None
