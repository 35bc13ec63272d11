"""What `evaluate` shows: the figures of training, calibration, intervals, and drawings that say n."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from polyward_client.cli.app import app
from polyward_client.site import Site
from polyward_client.trainer.appraisal import appraise
from polyward_client.trainer.dataset import load_dataset
from polyward_client.trainer.evaluate import evaluate
from polyward_client.trainer.finished import load_finished
from polyward_client.trainer.manifest import read_manifest
from polyward_shared.messages import Stage
from polyward_shared.problems import Problem
from polyward_shared.study import Study

RUN = CliRunner()


def silent(what: str, done: int, of: int) -> None:
    pass


def test_figures_are_those_of_training_and_more(finished_study: tuple[Site, Study, Path]) -> None:
    site, study, _ = finished_study
    finished = load_finished(site, study)
    found = appraise(finished, site, "test", 50, silent)
    data = load_dataset(read_manifest(site, study, finished.tasks), study)
    known = evaluate(finished.models["federated"], data, study, torch.device("cpu"), stage=Stage.TRAINED)
    ours = {(each.task, row.name): row for each in found.values() for row in each.figures}
    for row in known:
        if row.split == "test":
            assert ours[row.task, row.name].value == pytest.approx(row.value, abs=1e-6)
            assert ours[row.task, row.name].count == row.count
    assert {("shape", "ece"), ("shape", "brier"), ("grade", "ece"), ("bright", "ece")} <= ours.keys()
    area = ours["area", "mae"]
    assert area.low is not None
    assert area.high is not None
    assert area.low <= area.value <= area.high
    assert ours["shape", "ece"].low is None
    for task in ("bright", "shape", "grade"):
        calibrated = found[task].calibration
        assert calibrated is not None
        assert ((task, "ece_calibrated") in ours) == (calibrated.temperature is not None)


def test_the_command_writes_a_table_and_drawings(tmp_path: Path, finished_study: tuple[Site, Study, Path]) -> None:
    site, _, file = finished_study
    out = tmp_path / "out"
    result = RUN.invoke(app, ["evaluate", str(site.path), str(file), "--output", str(out), "--resamples", "20"])
    assert result.exit_code == 0, result.output
    names = {path.name for path in out.iterdir()}
    confusions = {
        f"{task}.{what}.png" for task in ("bright", "shape", "grade") for what in ("confusion", "reliability")
    }
    assert names == {"evaluation.csv", "bright.roc.png", "area.scatter.png", "mask.dice.png", *confusions}
    for name in names - {"evaluation.csv"}:
        with Image.open(out / name) as drawn:
            assert drawn.convert("L").getextrema() == (0, 255)
    with (out / "evaluation.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert {row["n"] for row in rows if row["task"] == "area"} == {"6"}
    assert {row["patients"] for row in rows} == {"6"}
    only = RUN.invoke(app, ["evaluate", str(site.path), str(file), "--task", "area", "--resamples", "0"])
    assert "shape" not in only.output
    assert "mae" in only.output


def test_a_folder_that_is_full_is_told_before_the_work(
    tmp_path: Path, finished_study: tuple[Site, Study, Path]
) -> None:
    site, _, file = finished_study
    (tmp_path / "mine").write_text("1")
    result = RUN.invoke(app, ["evaluate", str(site.path), str(file), "--output", str(tmp_path)])
    assert isinstance(result.exception, Problem)
    assert "exists already" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
