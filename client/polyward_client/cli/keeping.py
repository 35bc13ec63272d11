"""`polyward-node`: keeping what was trained here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from polyward_client import decisions
from polyward_client.approvals import read_approval
from polyward_client.cli.app import KEEP, SiteArgument, StateOption, app
from polyward_client.site import Site, read_site
from polyward_shared.commands import bar, new_app, out, talk, writing
from polyward_shared.problems import Problem
from polyward_shared.supervise import only_one

if TYPE_CHECKING:
    from polyward_client.trainer.vault.look import Kept

StudyStart = Annotated[str, typer.Argument(help="the study's digest, or how it begins", metavar="STUDY")]

vault = new_app("What this site trained and keeps: one file for each of the last rounds, and one at the end.")
app.add_typer(vault, name="vault", rich_help_panel=KEEP)


@vault.command()
def history(
    site: SiteArgument,
    study: Annotated[str, typer.Option(help="only this one: its digest, or how it begins")] = "",
    state: StateOption = None,
) -> None:
    """Show what the vault holds, of each study and round."""
    from polyward_client.trainer.vault.look import history as kept_files
    from polyward_client.trainer.vault.look import study_in

    place = read_site(site, state=state)
    with writing():
        files = kept_files(place, study_in(place, study) if study else None)
    if not files:
        talk.print(f"{place.name} has trained nothing yet")
        return
    for name in dict.fromkeys(kept.study for kept in files):
        out.print(_history_table(_study_name(place, name), [kept for kept in files if kept.study == name]))
    out.print(f"{sum(kept.bytes for kept in files) / 1e6:.1f} MB{_allowed(place)}")


@vault.command()
def rollback(
    site: SiteArgument,
    study: StudyStart,
    round: Annotated[int | None, typer.Argument(help="the round to go on from", metavar="ROUND")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="take the last rollback of this study back")] = False,
) -> None:
    """Go on from an older round: the next one begins with its branches. Newer files are set aside, none is deleted."""
    from polyward_client.trainer.vault import open_vault
    from polyward_client.trainer.vault.look import study_in
    from polyward_client.trainer.vault.rollback import roll_back
    from polyward_client.trainer.vault.rollback import undo as take_back

    place = read_site(site)
    if undo == (round is not None):
        raise Problem("vault rollback", "needs either a round or --undo", remedy="name the round to go on from")
    with _stopped(place):
        kept = open_vault(place, study_in(place, study))
        if round is not None:
            newer = roll_back(kept, round)
            out.print(f"the next round begins with the branches of round {round}")
            out.print(f"set aside: {', '.join(newer)}  (back with --undo)")
            return
        gone_to, back, newer = take_back(kept)
        out.print(f"back again, after round {gone_to}: {', '.join(back)}")
        if newer:
            out.print(f"set aside in turn: {', '.join(newer)}")


@vault.command()
def prune(
    site: SiteArgument,
    finished: Annotated[bool, typer.Option(help="also the rounds of studies that ended; final models stay")] = False,
    withdrawn: Annotated[bool, typer.Option(help="also everything of studies that this site withdrew")] = False,
    aside: Annotated[bool, typer.Option(help="also what a rollback set aside")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Delete rounds beyond those that 'rounds' under \\[vault] asks for, and more if you say so."""
    from polyward_client.trainer.vault.look import prunable, remove

    place = read_site(site)
    with _stopped(place):
        going = prunable(place, finished=finished, aside=aside, gone=_left(place) if withdrawn else frozenset())
        if not going:
            talk.print("nothing to delete")
            return
        size = sum(path.stat().st_size for path in going)
        for path in going:
            out.print(str(path.relative_to(place.vault)), soft_wrap=True, highlight=False)
        if not yes and not sys.stdin.isatty():
            raise Problem("vault prune", f"would delete these {len(going)} files", remedy="say so with --yes")
        if yes or typer.confirm(f"delete these {len(going)} files, {size / 1e6:.1f} MB, for good?", err=True):
            remove(place, going)
            out.print(f"deleted {len(going)} files, {size / 1e6:.1f} MB")


@vault.command()
def verify(site: SiteArgument, state: StateOption = None) -> None:
    """Read every file of the vault whole, and say which is damaged. Exit code 2 if one is."""
    from polyward_client.trainer.vault.look import verify as faults_of

    place = read_site(site, state=state)
    with writing(), bar("reading") as told:
        faults = list(faults_of(place, told))
    for path, found in faults:
        out.print(f"[red]{path.relative_to(place.vault)}[/]: {found}", soft_wrap=True, highlight=False)
    if faults:
        raise typer.Exit(2)
    out.print("[green]every file is whole[/]")


@vault.command()
def rotate(
    site: SiteArgument,
    passphrase: Annotated[Path | None, typer.Option(help="a file with the new passphrase, if it has one")] = None,
) -> None:
    """Seal everything anew, with a new key. Cut off anywhere, the same command goes on."""
    from polyward_client.trainer.vault.rotate import rotate as seal_anew

    place = read_site(site)
    with _stopped(place), bar("sealing") as told:
        sealed = seal_anew(place, passphrase=passphrase, told=told)
    out.print(f"[green]sealed {sealed} files anew[/]")
    talk.print("backups from before need what opened the vault until now: make a new one", soft_wrap=True)


@vault.command()
def key(
    site: SiteArgument,
    file: Annotated[Path, typer.Argument(help="the file to make; better on another disk", metavar="FILE")],
) -> None:
    """Make a key for the vault, for a site that has none."""
    from polyward_client.trainer.vault import new_vault_key

    place = read_site(site)
    new_vault_key(file)
    shown = os.path.relpath(file.resolve(), place.path.parent) if file.parent.samefile(place.path.parent) else file
    out.print(
        f'[bold]{place.name}[/]: now write into {place.path.name}, under \\[vault]: key = "{shown}"', soft_wrap=True
    )
    out.print("without this file nobody can read what is sealed: keep a copy in a safe place", soft_wrap=True)


@app.command(rich_help_panel=KEEP)
def backup(
    site: SiteArgument,
    file: Annotated[Path, typer.Argument(help="the file to write", metavar="FILE")],
    with_keys: Annotated[bool, typer.Option("--with-keys", help="also the node's key and the vault's")] = False,
) -> None:
    """Copy settings, approvals, the record of what was sent, and the vault into one file. The node must be stopped."""
    from polyward_client.backup import write_backup

    place = read_site(site)
    with _stopped(place), bar("copying") as told:
        manifest = write_backup(place, file, with_keys=with_keys, told=told)
    size = sum(part.bytes for part in manifest.parts)
    out.print(f"[green]{len(manifest.parts)} files, {size / 1e6:.1f} MB[/] in {file}", soft_wrap=True)
    if with_keys:
        talk.print(
            "[bold red]this file holds keys:[/] who has it can be this node towards the hub, and read the vault. "
            "Keep it as safe as the keys themselves.",
            soft_wrap=True,
        )
    else:
        talk.print("it holds no keys: keep copies of them elsewhere, or enrol again after a restore", soft_wrap=True)


@app.command(rich_help_panel=KEEP)
def restore(
    site: SiteArgument,
    file: Annotated[Path, typer.Argument(help="what `backup` wrote", metavar="FILE")],
) -> None:
    """Make the site's folder from a backup, and site.toml unless there is one. All of it, or nothing."""
    from polyward_client.restore import restore as make_from

    with writing(), bar("checking") as told:
        place, manifest = make_from(site, file, told=told)
    when = manifest.at.replace("T", " ")[:16]
    told_parts = f"{len(manifest.parts)} files in {place.state}"
    out.print(f"[green]{place.name}[/] is as it was on {when} UTC: {told_parts}", soft_wrap=True)
    if not place.key.is_file():
        talk.print(f"the backup held no keys: bring {place.key} back, or enrol again", soft_wrap=True)


@contextmanager
def _stopped(place: Site) -> Iterator[None]:
    """Holds the node's lock: two that write into one vault would lose files, and a backup would tear."""
    if not place.state.is_dir():
        raise Problem(str(place.state), "there is no such folder", remedy="was another site.toml meant?")
    with writing():
        descriptor = only_one(place.lock, place.name)
        try:
            yield
        finally:
            os.close(descriptor)


def _history_table(title: str, files: list[Kept]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("round", "when", "tasks", "MB", "sealed", "keeps"):
        table.add_column(heading, justify="right" if heading in {"round", "MB"} else "left", no_wrap=heading == "when")
    for kept in files:
        table.add_row(
            _round_text(kept),
            f"{kept.when.astimezone():%Y-%m-%d %H:%M}",
            ", ".join(kept.entry.tasks) if kept.entry else f"[red]{kept.problem}[/]",
            f"{kept.bytes / 1e6:.2f}",
            "yes" if kept.sealed else "no",
            _kept_text(kept),
        )
    return table


def _round_text(kept: Kept) -> str:
    number = str(kept.entry.round) if kept.entry else kept.path.stem.removeprefix("round-").lstrip("0")
    return f"{'final, ' if kept.final and kept.entry else ''}{number}{', aside' if kept.aside else ''}"


def _kept_text(kept: Kept) -> str:
    """The models that answer after the end; one word where it is one for all tasks."""
    models = kept.entry.kept if kept.entry else {}
    if len(set(models.values())) == 1:
        return next(iter(models.values()))
    return ", ".join(f"{task}: {model}" for task, model in models.items())


def _study_name(place: Site, study: str) -> str:
    try:
        approval = read_approval(place.approved, study)
    except Problem:
        approval = None
    return f"{approval.study.id}  {study[:12]}" if approval else study[:12]


def _allowed(place: Site) -> str:
    gigabytes = place.file.vault.gigabytes
    return "" if gigabytes is None else f" of {gigabytes * 1e3:.0f} MB that \\[vault] gigabytes allows"


def _left(place: Site) -> frozenset[str]:
    return frozenset(decisions.withdrawn(decisions.read_decisions(place.approved)))
