"""Predictions: the same images as in training get the same answers, in a table that says what it holds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from polyward_client.cli.app import app
from polyward_client.site import Site
from polyward_client.trainer.answers import image_cells
from polyward_client.trainer.calibration import Calibration, calibrations, split_answers
from polyward_client.trainer.finished import Finished, load_finished
from polyward_client.trainer.images import read_mask
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.predict import Asked, predict_images, stem_of
from polyward_client.trainer.tasks import kind_of
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

RUN = CliRunner()


def silent(what: str, done: int, of: int) -> None:
    pass


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_site_s_own_test_images_get_the_answers_of_evaluation(
    tmp_path: Path, finished_study: tuple[Site, Study, Path]
) -> None:
    site, study, file = finished_study
    given = [str(site.path), str(file), str(site.manifest), str(tmp_path / "out")]
    result = RUN.invoke(app, ["predict", *given, "--explain", "--probabilities"])
    assert result.exit_code == 0, result.output
    assert "30 of 30 images answered" in result.output.replace("\n", " ")
    rows = {row["path"]: row for row in table(tmp_path / "out" / "predictions.csv")}
    finished = load_finished(site, study)
    manifest = read_manifest(site, study, finished.tasks)
    known = split_answers(finished, manifest, "test")
    tests = [rows[case.path.name] for case in manifest.cases if case.split == "test"]
    fitted = calibrations(finished, site)
    for task in ("bright", "shape", "grade", "area"):
        kind, head = finished.model(task).kinds[task], finished.model(task).head(task)
        for row, answer in zip(tests, known[task].answers, strict=True):
            cells = image_cells(kind, answer, head, fitted.get(task, Calibration(None)))
            for column, cell in cells.items():
                assert row[column] == cell or float(row[column]) == pytest.approx(float(cell), abs=2e-4)
    row = tests[0]
    mask = read_mask(tmp_path / "out" / row["mask"], 2, classes=1)
    assert mask.sum() == int(row["mask.voxels.lesion"])
    with np.load(tmp_path / "out" / row["mask.p_uncalibrated"]) as kept:
        assert kept["image"].shape == (2, 16, 16)
        assert np.array_equal(kept["image"].argmax(0), mask)
    drawn = {path.name.split(".")[1] for path in (tmp_path / "out" / "attention").iterdir()}
    assert drawn == {"bright", "shape", "grade"}


def test_a_probability_that_is_not_calibrated_says_so() -> None:
    kind, head = kind_of(make_study(), "bright"), torch.nn.Identity()
    output = torch.tensor([2 * np.log(3)])
    plain = image_cells(kind, output, head)
    assert plain == {
        "bright": "1",
        "bright.p_uncalibrated.0": "0.1000",
        "bright.p_uncalibrated.1": "0.9000",
        "bright.entropy": "0.4690",  # -(0.9 log2 0.9 + 0.1 log2 0.1)
    }
    assert image_cells(kind, output, head, Calibration(2.0, 9))["bright.p.1"] == "0.7500"


def untrained(site: Site, study: Study) -> Finished:
    model = MultiTaskModel(study, tuple(study.tasks)).eval()
    return Finished(study, {"federated": model}, dict.fromkeys(study.tasks, "federated"), 1, "", torch.device("cpu"))


def test_images_of_a_group_have_one_answer(tmp_path: Path) -> None:
    study = make_study(tasks=("bright",))
    changed = {**study.model_dump(mode="json"), "tasks": {"bright": {"kind": "binary", "group": "patient"}}}
    study = Study.model_validate(changed)
    site = write_site(tmp_path, tasks=("bright",))
    source = site.root / "in.csv"
    source.write_text("path,patient\n0.png,a\n1.png,b\n2.png,a\n3.png,\n")
    finished = untrained(site, study)
    predict_images(finished, site, source, tmp_path / "out", Asked(), silent)
    one, other, again, alone = [row["bright.p_uncalibrated.1"] for row in table(tmp_path / "out" / "predictions.csv")]
    assert one == again
    assert len({one, other, alone}) == 3
    single = site.root / "single.csv"
    single.write_text("path\n0.png\n2.png\n")
    predict_images(finished, site, single, tmp_path / "single", Asked(), silent)
    chances = [float(row["bright.p_uncalibrated.1"]) for row in table(tmp_path / "single" / "predictions.csv")]
    mean = np.mean([np.log(p / (1 - p)) for p in chances])  # of the logits
    assert float(one) == pytest.approx(1 / (1 + np.exp(-mean)), abs=2e-4)


def test_an_image_that_cannot_be_used_has_a_row_and_the_others_their_answers(tmp_path: Path) -> None:
    study = make_study(tasks=("area", "mask"))
    site = write_site(tmp_path, tasks=("area", "mask"))
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(np.full((20, 10), 9, np.uint8)).save(source / "good.png")
    (source / "bad.png").write_text("no image")
    told = predict_images(untrained(site, study), site, source, tmp_path / "out", Asked(), silent)
    assert told.failed.keys() == {"bad.png"}
    bad, good = table(tmp_path / "out" / "predictions.csv")
    assert (bad["path"], bad["area"]) == ("bad.png", "")
    assert "cannot be read" in bad["problem"]
    assert float(good["area"]) == pytest.approx(float(good["area"]))
    with Image.open(tmp_path / "out" / good["mask"]) as mask:
        assert mask.size == (10, 20)
    (source / "good.png").unlink()
    with pytest.raises(Problem, match="none of 1 images can be used"):
        predict_images(untrained(site, study), site, source, tmp_path / "nothing", Asked(), silent)
    assert not (tmp_path / "nothing").exists()


def test_no_two_images_have_the_same_files() -> None:
    assert stem_of("a/b.png") == "a/b_png"
    assert stem_of("b.nii.gz") == "b_nii_gz"
    assert stem_of("series") == "series"
