"""What federation gave this site: for each task, the figures that it has sent of the models that it trains.

Everything here stands in the sent-ledger, so a hospital sees what the hub was told, and nothing that stayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyward_client.approvals import read_approval
from polyward_client.site import Site
from polyward_shared.chain import read_chain
from polyward_shared.messages import Kind, Stage
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS, arrow, gain

ABSENT = "-"
IN_ROUNDS = {"received": Stage.RECEIVED, "federated": Stage.TRAINED, "alone": Stage.ALONE, "ditto": Stage.DITTO}
AT_THE_END = {
    "federated": Stage.FINAL,
    "alone": Stage.ALONE_FINAL,
    "ditto": Stage.DITTO_FINAL,
    "kept": Stage.KEPT,
}
COLUMNS = ("received", "federated", "alone", "ditto", "kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One task's primary figure from each model, by column, in the last round that was measured or after the end."""

    task: str
    metric: str
    when: str
    count: int
    values: Mapping[str, float]
    kept: str = ""  # the model that the site keeps

    @property
    def gain(self) -> float | None:
        """The federated model against the one trained alone, positive when federation is better."""
        if not {"federated", "alone"} <= self.values.keys():
            return None
        return gain(self.metric, self.values["federated"], self.values["alone"])


def compared(entries: Iterable[Mapping[str, Any]], study: Study) -> Iterator[Compared]:
    """The figures that these lines of the sent-ledger tell of the study, on its test split if it has one.

    A report that was sent again replaces the one before; a figure that stayed at the site is absent.
    """
    split = "test" if "test" in study.evaluation.splits else study.evaluation.splits[0]
    digest = study.digest()
    mine = [entry for entry in entries if entry["what"] == "report" and entry["study"] == digest and entry["metrics"]]
    rounds = {entry["round"]: entry for entry in mine if entry["kind"] == Kind.TRAIN}
    ends = [entry for entry in mine if entry["kind"] == Kind.FINISH]
    for task in study.tasks:
        if rounds:
            last = max(rounds)
            yield from _compared(rounds[last], task, study, split, f"round {last}", IN_ROUNDS)
        if ends:
            yield from _compared(ends[-1], task, study, split, "end", AT_THE_END)


def _compared(
    entry: Mapping[str, Any], task: str, study: Study, split: str, when: str, stages: Mapping[str, Stage]
) -> Iterator[Compared]:
    metric = METRICS[study.tasks[task].kind][0]
    found = {
        stage: (value, count)
        for name, where, stage, figure, value, count, *_ in entry["metrics"]
        if (name, where, figure) == (task, split, metric)
    }
    values = {column: found[stage][0] for column, stage in stages.items() if stage in found}
    if values:
        count = max(count for _, count in found.values())
        kept = entry.get("kept", {}).get(task, "")
        yield Compared(task=task, metric=metric, when=when, count=count, values=values, kept=kept)


def print_gains(site: Site, out: Console) -> bool:
    """A table for each approved study of which the site has sent figures; False if there is none."""
    entries, shown = list(read_chain(site.sent)), False
    for path in sorted(site.approved.glob("*.json")):
        approval = read_approval(site.approved, path.stem)
        rows = list(compared(entries, approval.study)) if approval else []
        if approval is None or not rows:
            continue
        shown = True
        out.print(f"[bold]{escape(approval.study.id)}[/]  {path.stem[:8]}")
        for when in dict.fromkeys(row.when for row in rows):
            out.print(_table([row for row in rows if row.when == when]))
        out.print(verdict(rows), highlight=False)
    return shown


def _table(rows: Sequence[Compared]) -> Table:
    """Figures of one time, narrow enough for a terminal of 80 columns: the metric's name may take several lines."""
    columns = [column for column in COLUMNS if any(column in row.values for row in rows)]
    table = Table(title=rows[0].when, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("n", *columns, "gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        figures = [f"{row.values[column]:.3f}" if column in row.values else ABSENT for column in columns]
        if row.kept and "kept" in row.values:
            figures[columns.index("kept")] += f" ({row.kept})"
        gain = ABSENT if row.gain is None else f"{row.gain:+.3f}"
        table.add_row(row.task, f"{row.metric}{arrow(row.metric)}", str(row.count), *figures, gain)
    return table


def verdict(rows: Iterable[Compared]) -> str:
    """In how many tasks federation helped, by the last comparison of each."""
    last = {row.task: row.gain for row in rows if row.gain is not None}
    if not last:
        return "No task can be compared: this site has sent no figure of a model that it trains alone."
    better, worse = (sum(sign * gain > 0 for gain in last.values()) for sign in (1, -1))
    tasks = f"{len(last)} task{'s' if len(last) > 1 else ''}"
    return f"Federated against alone: better in {better} of {tasks}, worse in {worse}."
