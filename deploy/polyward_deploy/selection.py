"""Which methods of the catalogue a study can have with these sites, as variations that can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from polyward_client.site import Site
from polyward_deploy.comparison.plan import Part, Subject, Variation
from polyward_deploy.methods import METHODS, Method, passes, shared_tasks
from polyward_deploy.results import ABSENT
from polyward_shared.aggregation import Aggregation
from polyward_shared.problems import Problem
from polyward_shared.study import Study

REFERENCE = "local"
COMPARED = Subject(one="method", many="methods", reference=REFERENCE, file="comparison")
ALL = "all"


def chosen(text: str) -> tuple[str, ...]:
    """The methods that a list with commas names, or `all`, in the catalogue's order; the reference is always among
    them. Raises `Problem`."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if wanted == [ALL]:
        return tuple(METHODS)
    known = f"{ALL}, or some of {', '.join(METHODS)}"
    if unknown := [name for name in wanted if name not in METHODS]:
        raise Problem("--methods", f"found {unknown[0]!r}", expected=known)
    if not wanted:
        raise Problem("--methods", "names nothing", expected=known)
    return tuple(name for name in METHODS if name in wanted or name == REFERENCE)


def obstacle(name: str, study: Study, sites: Sequence[Site]) -> str:
    """Why these sites cannot train the study by this method; empty where they can."""
    method = METHODS[name]
    try:
        varied = method.of(study)
    except Problem as problem:
        return problem.found
    least = varied.participation.quorum
    if least > len(sites) and not method.each_alone:
        return f"it needs the updates of {least} sites in every round; there are {len(sites)}"
    match varied.sharing.branches:
        case "task" if not shared_tasks(study, sites):
            return "it averages the branches of a task among its owners, and no task here has two that could"
        case "taskset" if len({frozenset(site.file.tasks) for site in sites}) == len(sites):
            return "it averages branches among sites with the very same tasks, and no two have"
    return ""


def variations(
    study: Study, sites: Sequence[Site], names: Sequence[str], *, leave_out: bool
) -> tuple[list[Variation], list[str]]:
    """The variations of a study, and what a reader of their figures must know.

    Raises `Problem` for a method that cannot be; `leave_out` leaves it out instead, and says so.
    """
    found, said = [], [_work(study)]
    for name in names:
        if reason := obstacle(name, study, sites):
            if not leave_out or name == REFERENCE:
                raise Problem(f"--methods {name}", f"cannot be here: {reason}", remedy="leave it out, or mend that")
            said.append(f"{name} is left out: {reason}.")
        else:
            found.append(_variation(name, METHODS[name], study, sites))
    return found, said


def _variation(name: str, method: Method, study: Study, sites: Sequence[Site]) -> Variation:
    varied = method.of(study)
    if method.each_alone:
        parts = tuple(Part(study=varied, sites=(site,), label=site.name) for site in sites)
    else:
        parts = (Part(study=varied, sites=tuple(sites)),)
    shown = shared_tasks(study, sites) if method.shared_only else None
    return Variation(name=name, described=method.help, parts=parts, model=method.model, shown=shown)


def _work(study: Study) -> str:
    return (
        f"Every method has {passes(study)} passes over the data in each of {study.rounds} rounds, and all but fedavg "
        f"{study.training.final_epochs} at the end; methods differ in what else they cost, as their lines say."
    )


def method_table() -> Table:
    """The catalogue, with what each method's rule asks of the hub.

    Whether it can forget an update once it has been added to a sum, how many encoders it keeps, whether sums alone
    would do, so that a protocol of secure sums could carry them, and how many sites have to answer.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    table.add_column("what it is, and its source", ratio=1)
    for heading in ("hub\nholds", "encoders", "secure\nsums", "fewest\nsites"):
        table.add_column(heading, no_wrap=True)
    for name, method in METHODS.items():
        rule = method.traits
        fewest = Aggregation(rule=method.rule, weighting="samples" if rule.weighs else "uniform").fewest
        asked = ("a sum" if rule.streams else "all", rule.encoders, "yes" if rule.secure_sums else "no", str(fewest))
        if method.each_alone:
            asked = ("nothing", "each", ABSENT, "1")
        table.add_row(name, f"{method.help}\n[dim]{method.source}[/]", *asked)
    return table
