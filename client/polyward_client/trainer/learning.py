"""The journal for people: how each task's loss went, what the balancer made of it, and which tasks pull apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyward_client.approvals import read_approval
from polyward_client.site import Site
from polyward_client.trainer.journal import Epoch, read_epochs

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 20  # bars of a loss's course
CONFLICT = -0.05  # mean cosine below which two tasks are said to pull apart


def print_learning(site: Site, out: Console) -> bool:
    """One table for each study that was trained here; False if there is none."""
    journals = sorted(site.journal.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    shown = False
    for path in journals:
        approval = read_approval(site.approved, path.stem)
        epochs = read_epochs(path)
        if not epochs:
            continue
        shown = True
        name = f"{approval.study.id} {path.stem[:8]}" if approval else path.stem[:8]
        last = epochs[-1]
        out.print(f"[bold]{escape(name)}[/]  {len(epochs)} epochs, the last in round {last.round} ({last.phase})")
        out.print(_table(epochs))
        for sentence in conflicts(epochs):
            out.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return shown


def _table(epochs: Sequence[Epoch]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("task", "loss, epoch by epoch"):
        table.add_column(heading, no_wrap=True)
    for heading in ("first", "last", "weight", "gradient"):
        table.add_column(heading, justify="right", no_wrap=True)
    for task in dict.fromkeys(task for epoch in epochs for task in epoch.losses):
        losses = [epoch.losses[task] for epoch in epochs if task in epoch.losses]
        weight = _latest(epoch.weights.get(task) for epoch in epochs)
        norm = _latest(epoch.norms.get(task) for epoch in epochs)
        table.add_row(task, course(losses), f"{losses[0]:.3f}", f"{losses[-1]:.3f}", weight, norm)
    return table


def course(values: Sequence[float]) -> str:
    """At most `WIDTH` bars, each the mean of as many neighbours; the lowest mean is the lowest bar."""
    count = min(WIDTH, len(values))
    edges = [len(values) * place // count for place in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    reach = (high - low) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int((mean - low) / reach * len(BARS)))] for mean in means)


def conflicts(epochs: Sequence[Epoch]) -> Iterator[str]:
    """A sentence for each pair of tasks whose gradients at the encoder's features point apart, worst first.

    Means over the epochs of the last round in which the encoder moved.
    """
    moved = [epoch for epoch in epochs if epoch.cosines]
    found: dict[str, list[float]] = {}
    for epoch in moved:
        if epoch.round == moved[-1].round:
            for pair, cosine in epoch.cosines.items():
                found.setdefault(pair, []).append(cosine)
    means = {pair: sum(cosines) / len(cosines) for pair, cosines in found.items()}
    for pair, mean in sorted(means.items(), key=lambda each: each[1]):
        if mean < CONFLICT:
            one, two = pair.split()
            yield f"{one} and {two} pull apart: mean cosine {mean:.2f} of their gradients in round {moved[-1].round}"


def _latest(values: Iterator[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{known[-1]:.3g}" if known else "-"
