"""A task's answers on a split -> PNGs for the site's own eyes. Every drawing says how many cases it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_roc, multiclass_confusion_matrix

from polyward_client.trainer.answers import class_of
from polyward_client.trainer.calibration import BINS, bins, expected_error
from polyward_client.trainer.evaluate import Gathered
from polyward_client.trainer.tasks import TaskKind
from polyward_client.trainer.tasks.centreline import CentrelineKind
from polyward_client.trainer.tasks.classes import BinaryKind, MulticlassKind, MultilabelKind, ranks, several
from polyward_client.trainer.tasks.landmark import LandmarkKind
from polyward_client.trainer.tasks.ordinal import OrdinalKind
from polyward_client.trainer.tasks.regression import RegressionKind
from polyward_client.trainer.tasks.segmentation import SegmentationKind
from polyward_client.trainer.tasks.synthesis import SynthesisKind

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"  # Okabe and Ito, for colour-blind readers
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
DPI = 120
MOST_NUMBERS = 12  # classes of a confusion matrix whose cells are written out
STEPS = 20  # bars of a distribution


def draw(
    folder: Path,
    kind: TaskKind,
    found: Gathered,
    head: nn.Module,
    figure: str,
    before: Tensor | None = None,
    after: Tensor | None = None,
) -> list[Path]:
    """The drawings that tell most of this kind of task: `<task>.<what>.png`.

    `before` and `after` are probabilities [n, classes] without and with calibration, where there are any.
    """
    written = []
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        match kind:
            case BinaryKind() | MultilabelKind():
                written += _saved(folder / f"{kind.name}.roc.png", lambda axes: _roc(axes, kind, found))
            case RegressionKind():
                written += _saved(folder / f"{kind.name}.scatter.png", lambda axes: _scatter(axes, kind, found, head))
            case SegmentationKind() | CentrelineKind() | SynthesisKind() | LandmarkKind():
                path = folder / f"{kind.name}.{figure}.png"
                written += _saved(path, lambda axes: _distribution(axes, kind, found, figure))
        if isinstance(kind, BinaryKind | MulticlassKind | OrdinalKind):
            written += _saved(folder / f"{kind.name}.confusion.png", lambda axes: _confusion(axes, kind, found))
        if before is not None:
            path = folder / f"{kind.name}.reliability.png"
            written += _saved(path, lambda axes: _reliability(axes, kind, found, before, after))
    return written


def _saved(path: Path, paint: Callable[[Axes], None]) -> list[Path]:
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    paint(figure.add_subplot())
    figure.savefig(path, dpi=DPI)
    return [path]


def _roc(axes: Axes, kind: TaskKind, found: Gathered) -> None:
    names = kind.names if isinstance(kind, MultilabelKind) else ("",)
    scores, truths = found.answers[:, : kind.channels], found.truths.reshape(len(found.truths), -1)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for place, name in enumerate(names):
        known = ~truths[:, place].isnan() if truths.is_floating_point() else torch.ones(len(truths), dtype=torch.bool)
        if not known.any() or not several(truths[known, place]):
            continue
        whole = truths[known, place].long()
        wrong, right, _ = binary_roc(ranks(scores[known, place]), whole)
        label = f"{name} ({int(whole.sum())} of {len(whole)})" if name else None
        axes.plot(wrong, right, drawstyle="steps-post", color=None if name else BLUE, label=label)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    positive = f", {int((truths > 0).sum())} of class 1" if not names[0] else ""
    axes.set_title(f"{kind.name}: ROC, n = {len(truths)}{positive}", fontsize=10)


def _confusion(axes: Axes, kind: TaskKind, found: Gathered) -> None:
    """Rows are true, columns answered; colours are shares of a row, numbers are cases."""
    names, truths = kind.classes(), found.truths.long()
    chosen = torch.tensor([class_of(kind, row) for row in found.answers])
    table = multiclass_confusion_matrix(chosen, truths, len(names)).numpy()
    shares = table / table.sum(1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(table) if len(names) <= MOST_NUMBERS else ():
        axes.text(
            column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black"
        )
    axes.set(xlabel="answered", ylabel="true")
    axes.set_title(f"{kind.name}: confusion, n = {len(truths)}", fontsize=10)


def _reliability(axes: Axes, kind: TaskKind, found: Gathered, before: Tensor, after: Tensor | None) -> None:
    """Accuracy over confidence in `BINS` parts (arXiv 1706.04599, figure 1); the marks' areas follow the cases."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    sides = [("as trained", before, ORANGE, "s")]
    sides += [("calibrated", after, BLUE, "o")] if after is not None else []
    for name, given, colour, marker in sides:
        there = [each for each in bins(given, found.truths) if each]
        xs, ys = [each.confidence for each in there], [each.accuracy for each in there]
        error = expected_error(given, found.truths)
        sizes = [20 + 180 * each.count / len(found.truths) for each in there]
        axes.scatter(xs, ys, s=sizes, color=colour, marker=marker, alpha=0.8, label=f"{name}, ECE {error:.3f}")
    lowest = 1 / before.shape[1]
    axes.set(xlabel="confidence in the answer", ylabel="share that is right", xlim=(lowest - 0.05, 1.05))
    axes.set_ylim(-0.05, 1.05)
    legend = axes.legend(frameon=False, fontsize=8, loc="lower right")
    for handle in legend.legend_handles:
        handle.set_sizes([40])  # type: ignore[union-attr]
    missing = "" if after is not None else ", not calibrated"
    axes.set_title(f"{kind.name}: reliability in {BINS} bins, n = {len(found.truths)}{missing}", fontsize=10)


def _scatter(axes: Axes, kind: TaskKind, found: Gathered, head: nn.Module) -> None:
    mean, spread = head.get_buffer("target").cpu().tolist()
    answered = (found.answers[:, 0] * spread + mean).numpy()
    true = found.truths.numpy()
    low, high = min(true.min(), answered.min()), max(true.max(), answered.max())
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=":")
    axes.scatter(true, answered, s=18, color=BLUE, alpha=0.6)
    axes.set(xlabel="true", ylabel="answered")
    axes.set_title(f"{kind.name}: n = {len(true)}", fontsize=10)


def _distribution(axes: Axes, kind: TaskKind, found: Gathered, figure: str) -> None:
    """One value for each case in which the figure is defined; a landmark's cases have one for each point seen."""
    values = found.answers if isinstance(kind, LandmarkKind) else found.answers[:, :1]
    defined = values[values.isfinite()].numpy()
    if len(defined):
        ends = (0.0, 1.0) if figure in {"dice", "cldice"} else (0.0, float(max(defined.max(), 1e-6)))
        axes.hist(defined, bins=STEPS, range=ends, color=BLUE, alpha=0.8)
        axes.axvline(float(np.median(defined)), color=ORANGE, label=f"median {np.median(defined):.3f}")
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel=figure, ylabel="points" if isinstance(kind, LandmarkKind) else "cases")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{kind.name}: n = {len(defined)} of {values.numel()}", fontsize=10)
