"""A study on the screen of the person who decides: what is trained, what leaves, the policy's word, what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyward_client.approvals import Approval
from polyward_client.changes import changes
from polyward_client.gate.policy import points
from polyward_client.gate.used import used_hours
from polyward_client.known import Known, earlier_version
from polyward_client.leaving import leaving, training
from polyward_client.site import Site

STAYS = "every image, every label, every array and optimiser state that is not named above"
COLOURS = {"approved": "green", "finished": "green", "proposed": "yellow", "rejected": "red", "withdrawn": "red"}


def print_study(site: Site, approval: Approval, out: Console, *, every_array: bool = False) -> None:
    """Everything that a person should know before approving."""
    study = approval.study
    out.print(f"[bold]{escape(study.id)}[/]  digest {study.digest()}", soft_wrap=True)
    _print_lines(out, "trains here", training(approval))
    if (own := site.file.topology) is not None:
        out.print(f"  topology: {own.kind}, this site's own choice; the study's is {study.topology.kind}")
    _print_lines(out, "leaves here", leaving(approval, every_array=every_array))
    out.print(f"[bold]stays here:[/] {STAYS}", soft_wrap=True)
    out.print("[bold]this site's policy[/]")
    for point in points(site.file.policy, study, None, used_hours(site, study.digest())):
        mark = "[green]ok[/]     " if point.met else "[red]refused[/]"
        out.print(f"  {mark}  {point.key}: {escape(point.words)}", soft_wrap=True, highlight=False)
    before = earlier_version(site, study)
    if before is None:
        out.print(f"no other version of {escape(study.id)} was approved here before", highlight=False)
    else:
        digest = before.study.digest()
        _print_lines(out, f"changed since the version {digest[:8]}, approved before", changes(before, approval))


def print_studies(site: Site, known: Sequence[Known], out: Console) -> None:
    """A line for each study; one that is not approved would be trained for the site's own tasks."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("id", "digest", "state", "tasks", "rounds", "decided", "by"):
        table.add_column(heading, justify="right" if heading == "rounds" else "left", overflow="fold")
    for each in known:
        study, decision = each.study, each.decision
        own = [task for task in study.tasks if task in site.file.tasks] if study else []
        table.add_row(
            escape(study.id) if study else "the hub asks for it",
            each.digest[:8],
            f"[{COLOURS[each.state]}]{each.state}[/]",
            ", ".join(each.approval.tasks if each.approval else own),
            f"{each.rounds} of {study.rounds}" if study else "",
            decision.at[:16].replace("T", " ") if decision else "",
            escape(decision.user) if decision else "",
        )
    out.print(table)
    for each in known:
        if each.decision and each.decision.reason:
            reason = f"{each.digest[:8]} {each.state}: {each.decision.reason}"
            out.print(reason, highlight=False, markup=False, soft_wrap=True)


def _print_lines(out: Console, heading: str, lines: Iterable[str]) -> None:
    out.print(f"[bold]{heading}[/]", highlight=False)
    for line in lines:
        out.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
