"""`polyward-hub`: the registry of encoders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from polyward_server.cli.app import ENCODERS, HubArgument, app
from polyward_server.cli.naming import ACTOR
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.registry import Registry
from polyward_server.registry.catalogue import Brought, Made, read_catalogue
from polyward_server.registry.compare import Comparison, Distance
from polyward_server.registry.lineage import Lineage, Measured
from polyward_server.registry.states import printable
from polyward_server.registry.tags import tag, untag
from polyward_server.views.encoders import EncoderRow, read_comparison, read_encoder_page, read_encoders
from polyward_shared.commands import out, talk
from polyward_shared.statements import tree

NameArgument = Annotated[
    str, typer.Argument(help="a tag, a release, or at least 8 digits of a digest", metavar="ENCODER")
]
JsonOption = Annotated[bool, typer.Option("--json", help="as JSON, to be read by programs")]

BAR = 20  # characters of a whole
ARRAYS_SHOWN = 30


@app.command("encoders", rich_help_panel=ENCODERS)
def encoders_command(
    hub: HubArgument,
    every: Annotated[bool, typer.Option("--all", help="every round, not only the newest and the named ones")] = False,
    as_json: JsonOption = False,
) -> None:
    """List encoders: the newest of each study, imported ones, and those with a tag or a release."""
    ledger, registry = open_registry(Hub(hub))
    found = read_encoders(ledger, registry)
    if as_json:
        print(found.model_dump_json(indent=1))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("encoder", "study", "round", "tags", "releases", "size", "made (UTC)"):
        table.add_column(heading, overflow="fold", no_wrap=heading not in {"study", "tags", "releases"})
    shown = [row for row in found.rows if every or row.outstanding]
    for row in shown:
        table.add_row(
            row.state[:12],
            escape(row.study_id) if row.study else f"[dim]file[/] {escape(row.source)}",
            "" if row.round is None else str(row.round),
            " ".join(row.tags),
            " ".join(row.releases),
            "[yellow]removed[/]" if row.size is None else decimal(row.size),
            f"{row.at:%Y-%m-%d %H:%M}",
        )
    out.print(table)
    if len(shown) < len(found.rows):
        talk.print(f"and {len(found.rows) - len(shown)} of earlier rounds: --all")


@app.command("encoder", rich_help_panel=ENCODERS)
def encoder_command(
    hub: HubArgument,
    name: NameArgument,
    every: Annotated[bool, typer.Option("--all", help="every figure, not only the first of each task")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one encoder: who is in it, what was measured, and its ancestry."""
    ledger, registry = open_registry(Hub(hub))
    page = read_encoder_page(ledger, registry, name)
    if as_json:
        print(page.model_dump_json(indent=1))
        return
    row, told = page.row, page.lineage
    out.print(f"[bold]{row.state}[/]", highlight=False, soft_wrap=True)
    if row.encoder != row.state:
        out.print(f"its encoder alone: {row.encoder}", highlight=False, soft_wrap=True)
    size = "removed" if row.size is None else decimal(row.size)
    out.print(f"{page.arrays} arrays, {page.values:,} values, {size}; {', '.join(page.groups)}", highlight=False)
    for what, names in (("tags", row.tags), ("releases", row.releases), ("parents", told.parents)):
        if names:
            out.print(f"{what}: {', '.join(names)}", highlight=False, soft_wrap=True)
    if told.shares:
        out.print(_shares(told))
    if figures := [each for each in told.figures if every or each.primary]:
        out.print(_figures(figures))
    out.print(tree(f"ancestry of {row.state[:16]}", told.ancestry))


@app.command("tag", rich_help_panel=ENCODERS)
def tag_command(
    hub: HubArgument,
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="letters, digits, dots, underscores or dashes", metavar="TAG")],
    move: Annotated[bool, typer.Option("--move", help="take it from the encoder that has it")] = False,
) -> None:
    """Give an encoder a name that may move later, such as `best`."""
    ledger, registry = open_registry(Hub(hub))
    origin = origin_of(ledger, registry, name)
    before = tag(ledger, origin, new, actor=ACTOR, move=move)
    moved = f", no longer {before[:16]}" if before and before != origin.state else ""
    out.print(f"[green]{new}[/] is {origin.state[:16]}{moved}", highlight=False)


@app.command("untag", rich_help_panel=ENCODERS)
def untag_command(hub: HubArgument, name: Annotated[str, typer.Argument(help="the tag", metavar="TAG")]) -> None:
    """Take a tag away. The encoder stays."""
    ledger, _ = open_registry(Hub(hub))
    state = untag(ledger, name, actor=ACTOR)
    out.print(f"{escape(name)} was {state[:16]}", highlight=False)


@app.command("compare-encoders", rich_help_panel=ENCODERS)
def compare_command(
    hub: HubArgument,
    a: NameArgument,
    b: Annotated[str, typer.Argument(help="likewise", metavar="OTHER")],
    every: Annotated[bool, typer.Option("--all", help="every array, not only those that changed most")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far two encoders lie apart, stage by stage and array by array."""
    ledger, registry = open_registry(Hub(hub))
    page = read_comparison(ledger, registry, a, b)
    if as_json:
        print(page.model_dump_json(indent=1))
        return
    found = page.comparison
    for letter, row in (("a", page.a), ("b", page.b)):
        where = _origin(row) if row.round is None else f"{_origin(row)}, round {row.round}"
        out.print(f"{letter}: {row.state[:16]}  {where}", highlight=False)
    out.print(_distances("stage", found.stages, found.whole))
    arrays = found.arrays if every else found.arrays[:ARRAYS_SHOWN]
    out.print(_distances("array", arrays))
    if len(arrays) < len(found.arrays):
        talk.print(f"and {len(found.arrays) - len(arrays)} arrays that changed less: --all")
    for line in _unlike(found):
        out.print(line, highlight=False, soft_wrap=True)


def open_registry(hub: Hub) -> tuple[Ledger, Registry]:
    return Ledger(hub.ledger), Registry(hub.registry)


def origin_of(ledger: Ledger, registry: Registry, name: str) -> Made | Brought:
    catalogue = read_catalogue(ledger, registry)
    return catalogue.origins[catalogue.named(name)]


def _origin(row: EncoderRow) -> str:
    return f"{escape(row.study_id)} {row.study[:8]}" if row.study else f"file {escape(row.source)}"


def _shares(told: Lineage) -> Table:
    table = Table("site", "weight", "part", "share of the step", title=f"round {told.round}, rule {told.rule}")
    for each in told.shares:
        share = "" if each.share is None else f"{each.share:.1%}"
        table.add_row(escape(each.site), str(each.weight), f"{each.part:.1%}", share)
    return table


def _figures(figures: Iterable[Measured]) -> Table:
    table = Table("task", "figure", "split", "stage", "site", "n", "value", title="measured on it")
    for each in figures:
        interval = "" if each.low is None or each.high is None else f" [{each.low:.3f}, {each.high:.3f}]"
        words = (
            each.task,
            each.metric,
            each.split,
            each.stage,
            each.site,
            str(each.cases),
            f"{each.value:.3f}{interval}",
        )
        table.add_row(*map(escape, words))
    return table


def _distances(what: str, distances: Sequence[Distance], whole: Distance | None = None) -> Table:
    table = Table(pad_edge=False)
    table.add_column(what, overflow="fold")
    for heading in ("values", "relative", "cosine", "greatest"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("share of the change", no_wrap=True)
    for each in distances:
        table.add_row(*_numbers(escape(printable(each.name)), each))
    if whole is not None:
        table.add_section()
        table.add_row(*_numbers("whole", whole))
    return table


def _numbers(name: str, each: Distance) -> tuple[str, ...]:
    relative = "-" if each.relative is None else f"{each.relative:.4g}"
    cosine = "-" if each.cosine is None else f"{each.cosine:.4f}"
    bar = "█" * round(BAR * each.share)
    return name, f"{each.values:,}", relative, cosine, f"{each.greatest:.4g}", f"{each.share:6.1%} {bar}"


def _unlike(found: Comparison) -> Iterable[str]:
    if found.alike:
        return
    yield "[yellow]not the same kind of encoder[/]: only what both have is compared"
    for letter, names in (("a", found.only_a), ("b", found.only_b)):
        for name in names:
            yield f"only in {letter}: {escape(printable(name))}"
    for each in found.reshaped:
        yield escape(f"another shape: {printable(each.name)} is {list(each.a)} in a, {list(each.b)} in b")
