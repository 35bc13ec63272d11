"""`polyward-node`: deciding what may run here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyward_client.cli.app import STUDIES, SiteArgument, app
from polyward_client.site import Site, read_site
from polyward_shared.commands import out, talk
from polyward_shared.problems import Problem, Refused
from polyward_shared.study import Study
from polyward_shared.whole import write_whole

if TYPE_CHECKING:
    from polyward_client.approvals import Approval

KnownArgument = Annotated[
    str, typer.Argument(help="the study's file, or the start of a digest that 'studies' shows", metavar="STUDY")
]


@app.command(rich_help_panel=STUDIES)
def studies(site: SiteArgument) -> None:
    """Show all studies that were approved, proposed, rejected or withdrawn here, and how far each has come."""
    from polyward_client.known import known_studies
    from polyward_client.showing import print_studies

    place = read_site(site)
    if known := known_studies(place):
        print_studies(place, known, out)
    else:
        talk.print(f"{place.name} knows no study yet; polyward-node show SITE STUDY begins with one")


@app.command(rich_help_panel=STUDIES)
def show(
    site: SiteArgument,
    study: KnownArgument,
    every_array: Annotated[bool, typer.Option("--all", help="each array that leaves, with its shape")] = False,
) -> None:
    """Show in plain words what a study trains here, what leaves, what the policy says, and what changed in it."""
    from polyward_client.known import keep_text
    from polyward_client.showing import print_study

    place, wanted, standing = _looked_up(site, study)
    if standing is None:
        keep_text(place, wanted)
    print_study(place, standing or _as_approved(wanted, place), out, every_array=every_array)
    out.print("[green]approved[/]" if standing else "not approved: polyward-node approve, or reject")


@app.command(rich_help_panel=STUDIES)
def approve(
    site: SiteArgument,
    study: KnownArgument,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask; for scripts")] = False,
) -> None:
    """Allow a study to run here, after showing what will leave."""
    from polyward_client.approvals import write_approval
    from polyward_client.gate.policy import violations
    from polyward_client.gate.used import used_hours
    from polyward_client.known import find_study
    from polyward_client.showing import print_study

    place = read_site(site)
    wanted = find_study(place, study)
    approval = _as_approved(wanted, place)
    print_study(place, approval, out)
    if refused := violations(place.file.policy, wanted, None, used_hours(place, wanted.digest())):
        raise Problem(
            f"the study {wanted.id}",
            f"this site's policy refuses it; {'; '.join(refused)}",
            remedy=f"ask for another study, or change the policy in {place.path.name}",
        )
    if not yes and not _confirmed(wanted):
        talk.print("not approved")
        raise typer.Exit(1)
    write_approval(place.approved, approval, place.file.policy)
    out.print("[green]approved[/]")


@app.command(rich_help_panel=STUDIES)
def reject(
    site: SiteArgument,
    study: KnownArgument,
    reason: Annotated[str, typer.Option(help="why; kept here and never sent")],
) -> None:
    """Note that a study may not run here, and why. The hub learns only that it is not approved."""
    from polyward_client.decisions import Verdict, decide
    from polyward_client.known import keep_text

    place, wanted, standing = _looked_up(site, study)
    if standing is not None:
        raise Problem(wanted.id, "is approved here", remedy="take it back with polyward-node withdraw")
    keep_text(place, wanted)
    decide(place.approved, Verdict.REJECTED, study=wanted.digest(), id=wanted.id, reason=reason)
    out.print(f"{wanted.id} {wanted.digest()[:8]}: rejected")


@app.command(rich_help_panel=STUDIES)
def withdraw(
    site: SiteArgument,
    study: KnownArgument,
    reason: Annotated[str, typer.Option(help="why; kept here and never sent")] = "",
) -> None:
    """Take an approval back, at once. Work under way is cancelled; what was trained here stays."""
    from polyward_client.decisions import Verdict, decide

    place, wanted, standing = _looked_up(site, study)
    if standing is None:
        raise Problem(wanted.id, "is not approved here", remedy="there is nothing to take back")
    decide(place.approved, Verdict.WITHDRAWN, study=wanted.digest(), id=wanted.id, reason=reason)
    out.print(f"{wanted.id} {wanted.digest()[:8]}: withdrawn; nothing more of it leaves")


@app.command(rich_help_panel=STUDIES)
def pause(site: SiteArgument) -> None:
    """Work on no order until 'resume'; what is under way is cancelled. The node stays online."""
    from polyward_client.decisions import Verdict, decide

    place = read_site(site)
    if place.paused.exists():
        talk.print(f"{place.name} is paused already")
        return
    write_whole(place.paused, b"")
    decide(place.approved, Verdict.PAUSED)
    out.print(f"{place.name} is paused")


@app.command(rich_help_panel=STUDIES)
def resume(site: SiteArgument) -> None:
    """Work on orders again."""
    from polyward_client.decisions import Verdict, decide

    place = read_site(site)
    if not place.paused.exists():
        talk.print(f"{place.name} is not paused")
        return
    decide(place.approved, Verdict.RESUMED)
    place.paused.unlink()
    out.print(f"{place.name} works on orders again")


def _looked_up(site: Path, study: str) -> tuple[Site, Study, Approval | None]:
    """The site, the study, and its approval if it stands at this moment."""
    from polyward_client.approvals import approved_now
    from polyward_client.known import find_study

    place = read_site(site)
    wanted = find_study(place, study)
    try:
        return place, wanted, approved_now(place.approved, wanted.digest())
    except Refused:
        return place, wanted, None


def _as_approved(study: Study, site: Site) -> Approval:
    """What approving would approve."""
    from polyward_client.trainer.approve import make_approval  # after reading: importing torch takes seconds

    return make_approval(study, site)


def _confirmed(study: Study) -> bool:
    """Asks the person at the terminal. Raises `Problem` where there is none."""
    if not sys.stdin.isatty():
        raise Problem(
            f"the study {study.id}",
            "nobody can be asked, for this is no terminal",
            remedy="add --yes once a person has read the above",
        )
    return typer.confirm(f"may {study.id} run here, and all of the above leave?", default=False, err=True)
