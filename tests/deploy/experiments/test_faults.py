"""One faulty site: what is wrong with it, and that the study goes on and points at it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from polyward_client.site import read_site
from polyward_client.trainer.trainer import LocalTrainer
from polyward_deploy.experiments import faults, faults_bench
from polyward_deploy.experiments.faults import CULPRIT, FINDING, NUMBER, SITES, Fault, FaultyTrainer
from polyward_deploy.experiments.outcome import Figure


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "IMAGES", 40)
    monkeypatch.setattr(faults, "SIZE", 16)
    monkeypatch.setattr(faults, "ROUNDS", 2)


def labels(folder: Path, site: str, task: str) -> list[float]:
    with (folder / "data" / site / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [float(row[task]) for row in csv.DictReader(file)]


def test_only_the_culprits_labels_are_wrong(tmp_path: Path) -> None:
    several: tuple[Fault, ...] = ("none", "scale", "flip")
    for fault in several:
        files = faults.write_sites(tmp_path / fault, fault, 0)
        assert [read_site(path).name for path in files] == list(SITES)
    sound, scaled, flipped = (tmp_path / fault for fault in ("none", "scale", "flip"))
    assert labels(scaled, CULPRIT, NUMBER) == pytest.approx([10 * value for value in labels(sound, CULPRIT, NUMBER)])
    assert labels(flipped, CULPRIT, FINDING) == [1 - value for value in labels(sound, CULPRIT, FINDING)]
    for folder in (scaled, flipped):
        assert labels(folder, "ash", NUMBER) == labels(sound, "ash", NUMBER)
        assert labels(folder, "ash", FINDING) == labels(sound, "ash", FINDING)


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [("loud", [21.0, -39.0]), ("backward", [-5.0, 13.0]), ("zeros", [0.0, 0.0]), ("nan", [3.0, -3.0])],
)
def test_an_update_is_spoilt_as_the_fault_says(tmp_path: Path, fault: Fault, wanted: list[float]) -> None:
    [path, *_] = faults.write_sites(tmp_path, "none", 0)
    faulty = FaultyTrainer(LocalTrainer(read_site(path)), fault)
    value, base = np.array([3.0, -3.0], np.float32), np.array([1.0, 1.0], np.float32)
    assert faulty._spoilt(value, base).tolist() == wanted


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "what"), [("loud", "shortened"), ("nan", "refused")])
def test_the_others_go_on_and_the_culprit_is_named(tmp_path: Path, fault: Fault, what: str) -> None:
    files = faults.write_sites(tmp_path / "hospitals", fault, 0)
    heard: list[int] = []
    found = faults.aftermath(faults.study_of({}, "site", 0), files, fault, tmp_path / "run", heard.append)
    assert heard == [1, 2]
    assert {site for site, _ in found.figures} >= set(SITES) - {CULPRIT}
    assert {event.site for event in found.named if event.what == what} == {CULPRIT}
    assert faults.named_sites(found)[CULPRIT] == {1, 2}


def test_the_default_fails_its_marks_where_others_lose_or_nobody_is_named() -> None:
    def figures(error: float, named: int) -> list[Figure]:
        rows = []
        for fault in faults.FAULTS:
            shared = {"setting": f"site/{fault}", "method": faults_bench.DEFAULT, "seed": 0}
            worse = error if fault == "loud" else 1.0
            rows.append(Figure(name="mae", value=worse, site="ash", **shared))  # type: ignore[arg-type]
            rows.append(Figure(name="auroc", value=0.8, site="ash", **shared))  # type: ignore[arg-type]
            rows.append(Figure(name="named", value=float(named), site=CULPRIT, **shared))  # type: ignore[arg-type]
        return rows

    assert all(mark.met for mark in faults_bench._marks(figures(1.1, 2)))
    assert [mark.what for mark in faults_bench._marks(figures(1.3, 2)) if not mark.met] == [
        "loud: the default keeps the others' results"
    ]
    missed = [mark.what for mark in faults_bench._marks(figures(1.0, 0)) if not mark.met]
    assert len(missed) == len(faults.FAULTS) - 2  # one for each but none and the attack
