"""`polyward-node evaluate`: how well the kept models do on this site's own cases. For the site's eyes alone.

Nothing leaves, so no figure is held back because few cases are behind it: each says how many they are.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from polyward_client.site import Site
from polyward_client.trainer.bootstrap import intervals
from polyward_client.trainer.calibration import (
    CALIBRATED,
    Calibration,
    brier,
    calibrations,
    chances,
    expected_error,
    only_splits,
    split_answers,
)
from polyward_client.trainer.dataset import Indices
from polyward_client.trainer.drawings import draw
from polyward_client.trainer.evaluate import Gathered, figures
from polyward_client.trainer.finished import Finished
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.tasks import Figure
from polyward_shared.messages import Kept
from polyward_shared.seeds import seed_for
from polyward_shared.tasks import METRICS, arrow

SIGNS = {"ece": "↓", "ece_calibrated": "↓", "brier_calibrated": "↓", "temperature": ""}
TABLE = "evaluation.csv"

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of a task, from `count` cases, with its 95 % interval where there is one."""

    name: str
    value: float
    count: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Appraisal:
    """One task on one split: its figures, and the answers that they come from."""

    task: str
    model: Kept
    found: Gathered
    figures: tuple[Measured, ...]
    calibration: Calibration | None  # None where its kind has none

    @property
    def patients(self) -> int:
        return len(np.unique(self.found.patients))


def appraise(finished: Finished, site: Site, split: str, resamples: int, watch: Watch) -> dict[str, Appraisal]:
    """By task, those without a labelled case in the split left out. Raises `Problem`."""
    every = next(iter(finished.models.values())).tasks
    manifest = only_splits(read_manifest(site, finished.study, every), split)
    answers = split_answers(finished, manifest, split, lambda done, of: watch("reading images", done, of))
    fitted = calibrations(finished, site, lambda done, of: watch("reading validation images", done, of))
    appraised = {}
    for done, task in enumerate((name for name in finished.tasks if name in answers), start=1):
        appraised[task] = _appraised(finished, task, split, answers[task], fitted.get(task), resamples)
        watch("drawing patients anew", done, len(answers))
    return appraised


def _appraised(
    finished: Finished, task: str, split: str, found: Gathered, calibration: Calibration | None, resamples: int
) -> Appraisal:
    def again(places: Indices) -> dict[str, float]:
        index = torch.from_numpy(places)
        part = Gathered(found.losses[index], found.answers[index], found.truths[index], found.patients[places])
        return {name: value for name, value, _ in _figures(finished, task, part, calibration)}

    generator = np.random.default_rng(seed_for(finished.study.seed, "bootstrap", task, split))
    bounds = intervals(again, found.patients, resamples, generator) if resamples else {}
    # drawing with replacement adds error of its own to every bin, so an interval of the ECE would lie above it
    bounds = {name: ends for name, ends in bounds.items() if not name.startswith("ece")}
    measured = [
        Measured(name, value, count, *bounds.get(name, (None, None)))
        for name, value, count in _figures(finished, task, found, calibration)
        if math.isfinite(value) and count
    ]
    return Appraisal(task, finished.answers[task], found, tuple(measured), calibration)


def _figures(finished: Finished, task: str, found: Gathered, calibration: Calibration | None) -> Iterator[Figure]:
    """The figures that training knows, and how far probabilities can be believed before and after calibration."""
    model, kind = finished.model(task), finished.study.tasks[task].kind
    known = list(figures(model, task, found))
    yield from known
    if kind not in CALIBRATED:
        return
    count = len(found.truths)
    before = probabilities(finished, task, found)
    yield "ece", expected_error(before, found.truths), count
    if "brier" not in {name for name, _, _ in known}:
        yield "brier", brier(before, found.truths), count
    if calibration is not None and calibration.temperature is not None:
        after = probabilities(finished, task, found, calibration)
        yield "ece_calibrated", expected_error(after, found.truths), count
        yield "brier_calibrated", brier(after, found.truths), count


def probabilities(finished: Finished, task: str, found: Gathered, calibration: Calibration | None = None) -> Tensor:
    """Of the classes of the gathered cases [n, classes]."""
    divisor = calibration.divisor if calibration else 1.0
    return chances(finished.model(task).kinds[task], found.answers, divisor)


def appraisal_table(appraised: dict[str, Appraisal], finished: Finished, split: str) -> Table:
    fitted = any(each.calibration and each.calibration.temperature for each in appraised.values())
    caption = "temperatures were fitted on this very split" if split == "val" and fitted else None
    table = Table(title=f"{finished.study.id}, split {split}", caption=caption)
    for heading in ("task", "model", "figure", "value", "95 % interval", "n"):
        number = heading in {"value", "95 % interval", "n"}
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for each in appraised.values():
        first = True
        for row in each.figures:
            interval = f"{row.low:.3f} to {row.high:.3f}" if row.low is not None else ""
            sign = SIGNS.get(row.name) or arrow(row.name)
            names = (each.task, each.model) if first else ("", "")
            table.add_row(*names, f"{row.name} {sign}", f"{row.value:.3f}", interval, str(row.count))
            first = False
        table.add_section()
    return table


def write_appraisal(folder: Path, appraised: dict[str, Appraisal], finished: Finished) -> None:
    """`evaluation.csv`, and drawings of each task that has any."""
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "kind", "model", "figure", "value", "low", "high", "n", "patients", "temperature"])
        for each in appraised.values():
            kind = finished.study.tasks[each.task].kind
            temperature = each.calibration.temperature if each.calibration else None
            for row in each.figures:
                ends = ("" if end is None else f"{end:.6g}" for end in (row.low, row.high))
                told = "" if temperature is None else f"{temperature:.4f}"
                fixed = (each.task, kind, each.model, row.name, f"{row.value:.6g}")
                writer.writerow([*fixed, *ends, row.count, each.patients, told])
    for each in appraised.values():
        before = after = None
        if finished.study.tasks[each.task].kind in CALIBRATED:
            before = probabilities(finished, each.task, each.found)
            if each.calibration and each.calibration.temperature:
                after = probabilities(finished, each.task, each.found, each.calibration)
        model, name = finished.model(each.task), METRICS[finished.study.tasks[each.task].kind][0]
        draw(folder, model.kinds[each.task], each.found, model.head(each.task), name, before, after)
