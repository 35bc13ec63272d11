"""A release as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from polyward_shared.releases import Checked, Descent, Figure


def shown(checked: Checked, *, every: bool = False) -> Iterator[RenderableType]:
    """What a release says, the figures by which tasks are judged (or `every` one), and the encoder's ancestry."""
    stated = checked.release.statement
    yield _checked(checked)
    if figures := [each for each in stated.figures if every or each.primary]:
        yield _stated(figures)
    yield tree("ancestry", stated.ancestry)


def tree(title: str, ancestry: Iterable[Descent]) -> Tree:
    """One below the other: what is lower was there before."""
    whole = branch = Tree(title)
    for each in ancestry:
        branch = branch.add(_descent(each))
    return whole


def _descent(each: Descent) -> str:
    hub = f" (as {escape(each.hub)} says)" if each.hub else ""
    when = f", {each.at:%Y-%m-%d}" if each.at else ""
    match each.kind:
        case "study":
            rounds = f"rounds 0 to {each.round}, {each.sites} sites, {escape(each.rule)}{when}"
            return f"study [bold]{escape(each.name)}[/] {escape(each.digest[:8])}: {rounds}{hub}"
        case "import":
            return f"imported from {escape(each.name)}{when}{hub}"
        case "seed":
            return f"drawn from seed {escape(each.name)}{hub}"
        case "unknown":
            return f"an encoder of which nothing is known here, {escape(each.digest[:16])}{hub}"


def _checked(checked: Checked) -> Table:
    stated = checked.release.statement
    table = Table(show_header=False, box=None)
    labels = ", ".join(f"{task} {bucket}" for task, bucket in stated.labels.items())
    study = f"{stated.study_id}, round {stated.round}, {stated.rule}, {stated.sites} sites" if stated.study else ""
    rows = (
        ("release", stated.name),
        ("signed by", f"{stated.hub}, {stated.at:%Y-%m-%d}"),
        ("authority", checked.authority),
        ("encoder", stated.encoder),
        ("study", study),
        ("sites", ", ".join(stated.site_names)),
        ("images", stated.samples),
        ("labels", labels),
        ("notes", stated.notes),
    )
    late = f"signed while its certificate was good, until {checked.valid_until:%Y-%m-%d}"
    table.add_row(
        "[green]good[/]", late if checked.valid_until < datetime.now(UTC) else "every byte is as it was signed"
    )
    for what, text in rows:
        if text:
            table.add_row(what, escape(text))
    return table


def _stated(figures: Iterable[Figure]) -> Table:
    table = Table("task", "figure", "split", "stage", "sites, each by itself", pad_edge=False)
    for each in figures:
        values = [f"{v.value:.3f} (n {v.cases})" + (f" {v.site}" if v.site else "") for v in each.values]
        table.add_row(*map(escape, (each.task, each.metric, each.split, each.stage, ", ".join(values))))
    return table
