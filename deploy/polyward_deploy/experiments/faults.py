"""A federation of generated hospitals of which one is faulty: what it sends, and what that does to the others.

All six have the same two tasks, so that what one of them does wrong can reach the others by the encoder and, where
branches are shared, by the branches.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polyward_client.port.interface import Description, Done, Watcher, Work
from polyward_client.site import Site
from polyward_client.trainer.trainer import LocalTrainer
from polyward_deploy.hospitals import HOSPITALS, write_hospital
from polyward_deploy.phantoms import Scanner
from polyward_deploy.simulate import Watch, run_arm
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_shared.messages import Metric
from polyward_shared.states import read_state, write_state
from polyward_shared.study import Study

Fault = Literal["none", "scale", "flip", "loud", "backward", "zeros", "nan"]
FAULTS: dict[Fault, str] = {
    "none": "every site does its work",
    "scale": "labels of the number are ten times too large",
    "flip": "labels of the finding are the wrong way round",
    "loud": "the update is ten times too long",
    "backward": "the update goes three times the other way",
    "zeros": "every array that comes back is zero",
    "nan": "one value that comes back is not a number",
}
SITES = ("ash", "birch", "cedar", "elm", "fir", "oak")
CULPRIT = "oak"
NUMBER, FINDING = "organ_size", "lesion_suspicious"
ROUNDS, IMAGES, SIZE = 6, 200, 32
NAMED = ("outlier", "shortened", "refused", "misfit")  # events that point at a site


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a run left: the sites' final figures on the test split, and how often who was pointed at for what."""

    figures: Mapping[tuple[str, str], Metric]  # (site, task) -> its primary figure
    named: tuple[Event, ...]


def study_of(rule: Mapping[str, Any], branches: str, seed: int) -> Study:
    """Six small sites, eight rounds."""
    return Study.model_validate(
        {
            "id": "faults",
            "seed": seed,
            "rounds": ROUNDS,
            "image": {"size": [SIZE, SIZE]},
            "encoder": {"filters": 8, "blocks": [1, 1, 1]},
            "training": {"batch": 8, "final_epochs": 2, "augmentation": "none"},
            "personal": {"alone": False},
            "sharing": {"branches": branches},
            "aggregation": dict(rule),
            "participation": {"quorum": 5, "rejoin_seconds": 0.0},
            "evaluation": {"splits": ["test"], "every": 2},
            "tasks": {NUMBER: {"kind": "regression"}, FINDING: {"kind": "binary"}},
        }
    )


def write_sites(folder: Path, fault: Fault, seed: int) -> list[Path]:
    """The six hospitals of generated patients, with the culprit's labels as the fault has them."""
    pattern = replace(HOSPITALS[1], tasks=(NUMBER, FINDING), missing=0.0, scanner=Scanner(note="", noise=0.03))
    files = [write_hospital(folder, replace(pattern, name=name), IMAGES, size=SIZE, seed=seed) for name in SITES]
    manifest = folder / "data" / CULPRIT / "manifest.csv"
    if fault == "scale":
        _relabel(manifest, NUMBER, lambda value: str(10 * float(value)))
    if fault == "flip":
        _relabel(manifest, FINDING, lambda value: str(1 - int(value)))
    return files


def aftermath(study: Study, files: list[Path], fault: Fault, folder: Path, tell: Any) -> Aftermath:
    """Runs the study with one faulty site."""

    def heard(_: object, event: Event) -> None:
        if event.what == "committed" and event.round:
            tell(event.round)

    def trainer(site: Site) -> LocalTrainer | FaultyTrainer:
        honest = LocalTrainer(site)
        return FaultyTrainer(honest, fault) if site.name == CULPRIT else honest

    [path] = run_arm(study, files, "federated", folder, workers=1, watch=Watch(event=heard), trainers=trainer)
    ledger = Ledger(path)
    try:
        rows = [(site, metric) for _, site, metric in ledger.metrics(study.digest()) if metric.stage == "final"]
        events = [event for _, event in ledger.events_after(0, study.digest()) if event.what in NAMED]
    finally:
        ledger.close()
    wanted = {NUMBER: "mae", FINDING: "auroc"}
    figures = {(site, m.task): m for site, m in rows if m.name == wanted[m.task]}
    return Aftermath(figures, tuple(events))


class FaultyTrainer:
    """A site's trainer whose updates are spoilt on the way to the gate, which is honest and checks them as always."""

    def __init__(self, honest: LocalTrainer, fault: Fault) -> None:
        self.honest, self.fault = honest, fault

    def describe(self, study: str) -> Description:
        return self.honest.describe(study)

    def train(self, work: Work, watch: Watcher) -> Done:
        done = self.honest.train(work, watch)
        if done.update is not None:
            base = read_state(Path(work.state))
            spoilt = {name: self._spoilt(value, base[name]) for name, value in read_state(Path(done.update)).items()}
            if self.fault == "nan":
                next(iter(spoilt.values())).flat[0] = np.nan
            write_state(Path(done.update), spoilt, {})
        return done

    def finish(self, work: Work, watch: Watcher) -> Done:
        return self.honest.finish(work, watch)

    def cancel(self) -> None:
        self.honest.cancel()

    def _spoilt(self, value: Any, base: Any) -> Any:
        match self.fault:
            case "loud":
                return base + 10 * (value - base)
            case "backward":
                return base - 3 * (value - base)
            case "zeros":
                return np.zeros_like(value)
            case _:
                return value.copy()


def named_sites(found: Aftermath) -> dict[str, set[int]]:
    """By site: the rounds in which something pointed at it."""
    rounds: dict[str, set[int]] = {}
    for event in found.named:
        rounds.setdefault(event.site, set()).add(event.round)
    return rounds


def _relabel(path: Path, column: str, changed: Any) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows, header = list(reader), list(reader.fieldnames or ())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, column: changed(row[column]) if row[column] else ""} for row in rows)
