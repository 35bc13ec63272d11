"""Every form is read back by those libraries that its next user has, and answers the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from polyward_client.cli.app import app
from polyward_client.site import Site
from polyward_client.trainer.calibration import Calibration
from polyward_client.trainer.export.deployed import deployed
from polyward_client.trainer.export.formats import FORMATS, Answer, Form, as_tuple, quiet
from polyward_client.trainer.export.write import check_exportable, export_models, largest_difference
from polyward_client.trainer.finished import Finished, load_finished
from polyward_client.trainer.images import read_image
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.predict import Asked, predict_images
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.images import TOPOLOGIES, make_study, write_site

RUN = CliRunner()
NAMES = ("bright", "area", "mask")
SIZE = {"size": [16, 16]}


def silent(what: str, done: int, of: int) -> None:
    pass


def untrained(study: Study) -> Finished:
    model = MultiTaskModel(study, tuple(study.tasks)).eval()
    return Finished(study, {"federated": model}, dict.fromkeys(study.tasks, "federated"), 1, "", torch.device("cpu"))


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def exported(finished_study: tuple[Site, Study, Path], out: Path, form: str, *more: str) -> str:
    site, _, file = finished_study
    result = RUN.invoke(app, ["export", str(site.path), str(file), str(out), "--format", form, *more])
    assert result.exit_code == 0, result.output
    assert "largest difference" in result.output
    return result.output


def test_torchscript_needs_nothing_of_ours_and_says_what_predict_says(
    tmp_path: Path, finished_study: tuple[Site, Study, Path]
) -> None:
    exported(finished_study, tmp_path / "out", "torchscript")
    site, study, _ = finished_study
    with quiet():
        model = torch.jit.load(tmp_path / "out" / "model.ts")  # type: ignore[no-untyped-call]
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    finished = load_finished(site, study)
    predict_images(finished, site, site.root / "7.png", tmp_path / "said", Asked(), silent)
    values = torch.from_numpy(read_image(site.root / "7.png", 2).values / 255)[None]
    given = dict(zip([task["name"] for task in card["tasks"]], model(values), strict=True))
    header, row = (
        (tmp_path / "said" / "predictions.csv").read_text().splitlines()[place].split(",") for place in (0, 1)
    )
    told = dict(zip(header, row, strict=True))
    for task in ("bright", "shape", "grade"):
        columns = [column for column in header if column.startswith((f"{task}.p.", f"{task}.p_uncalibrated."))]
        assert given[task][0].tolist() == pytest.approx([float(told[column]) for column in columns], abs=1e-4)
    assert float(given["area"]) == pytest.approx(float(told["area"]), abs=1e-4)
    assert int((given["mask"].argmax(1) == 1).sum()) == int(told["mask.voxels.lesion"])


def test_onnx_takes_any_batch_and_names_its_outputs(tmp_path: Path, finished_study: tuple[Site, Study, Path]) -> None:
    exported(finished_study, tmp_path / "out", "onnx", "--task", "bright", "--task", "area")
    path = tmp_path / "out" / "model.onnx"
    assert {entry.domain: entry.version for entry in onnx.load(path).opset_import}[""] == 18
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["bright", "area"]
    for count in (1, 5):
        found = session.run(["bright"], {"image": images(count).numpy()})[0]
        assert found.shape == (count, 2)
        assert found.sum(1) == pytest.approx(np.ones(count), abs=1e-5)


def test_safetensors_hold_what_answers_and_nothing_of_training(
    tmp_path: Path, finished_study: tuple[Site, Study, Path]
) -> None:
    exported(finished_study, tmp_path / "out", "safetensors", "--task", "bright")
    arrays = load_file(tmp_path / "out" / "model.safetensors")
    assert any(name.startswith("federated.encoder.") for name in arrays)
    assert {name.split(".")[2] for name in arrays if ".branches." in name} == {"bright"}
    assert not [name for name in arrays if "progress" in name or "balancer" in name]
    study = Study.model_validate_json((tmp_path / "out" / "study.json").read_text())
    assert study.digest() == finished_study[1].digest()


def test_the_card_says_what_a_next_reader_must_know(tmp_path: Path, finished_study: tuple[Site, Study, Path]) -> None:
    exported(finished_study, tmp_path / "out", "torch-export")
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    site, study, _ = finished_study
    assert (card["study"], card["study_digest"], card["round"]) == ("toy", study.digest(), 1)
    assert card["input"]["size"] == [16, 16]
    by_name = {task["name"]: task for task in card["tasks"]}
    assert by_name["shape"]["channels"] == {"0": "disc", "1": "bar", "2": "cross"}
    assert by_name["mask"]["channels"] == {"0": "background", "1": "lesion"}
    assert {row["name"] for row in by_name["area"]["figures"]} >= {"mae", "rmse"}
    assert {row["n"] for row in by_name["area"]["figures"]} == {6}
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "Research use only" in readme
    assert study.digest() in readme
    assert (tmp_path / "out" / "LICENSE").exists()
    assert str(site.root) not in readme + json.dumps(card)


def test_figures_of_few_patients_do_not_travel(tmp_path: Path, finished_study: tuple[Site, Study, Path]) -> None:
    site, study, _ = finished_study
    policy = site.file.policy.model_copy(update={"minimum_count": 7})
    strict = Site(site.path, site.file.model_copy(update={"policy": policy}))
    export_models(load_finished(site, study), strict, "safetensors", tmp_path / "out", silent)
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert all(task["figures"] == [] for task in card["tasks"])
    assert "fewer than 7 cases" in (tmp_path / "out" / "README.md").read_text()


def test_temperature_and_unit_are_part_of_the_model() -> None:
    finished = untrained(make_study(tasks=("bright", "area")))
    finished.models["federated"].head("area").get_buffer("target").copy_(torch.tensor([50.0, 10.0]))
    plain = deployed(finished, {}, ("bright", "area"))
    cooled = deployed(finished, {"bright": Calibration(2.0, 9)}, ("bright", "area"))
    outputs = finished.outputs(images(), None)
    bright, area = plain(images())
    assert torch.allclose(bright[:, 1], outputs["bright"][:, 0].sigmoid(), atol=1e-6)
    assert torch.allclose(area, outputs["area"] * 10 + 50, atol=1e-4)
    assert torch.allclose(cooled(images())[0][:, 1], (outputs["bright"][:, 0] / 2).sigmoid(), atol=1e-6)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_can_be_traced_and_keeps_any_batch(tmp_path: Path, topology: str) -> None:
    finished = untrained(make_study(tasks=NAMES, topology=TOPOLOGIES[topology]))
    assert difference(finished, "torchscript", tmp_path) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_can_be_exported(tmp_path: Path, topology: str) -> None:
    """To ONNX, which goes by way of torch.export."""
    finished = untrained(make_study(tasks=NAMES, topology=TOPOLOGIES[topology]))
    assert difference(finished, "onnx", tmp_path) < 1e-4


def test_side_inputs_are_a_second_input(tmp_path: Path) -> None:
    side = {"age": {"kind": "number"}, "sex": {"kind": "category", "classes": ["f", "m"]}}
    tasks = {"bright": {"kind": "binary", "side": ["age", "sex"]}, "area": {"kind": "regression"}}
    whole = {**make_study(tasks=("bright",)).model_dump(mode="json"), "side": side, "tasks": tasks}
    finished = untrained(Study.model_validate(whole))
    known = torch.tensor([[50.0, 1.0], [float("nan"), 0.0], [20.0, float("nan")]])
    assert difference(finished, "torchscript", tmp_path, known) < 1e-5
    module = deployed(finished, {}, ("bright",))
    assert not torch.equal(module(images(), known), module(images(), known.flip(0)))
    with pytest.raises(Problem, match="inputs besides the image"):
        check_exportable(finished, "bundle")


def difference(finished: Finished, form: Form, folder: Path, side: torch.Tensor | None = None) -> float:
    """By how much the file answers otherwise, over batches of one, two and three images."""
    module, chosen = deployed(finished, {}, finished.tasks), FORMATS[form]
    given = (images(),) if side is None else (images(), side)
    site: Any = None  # which only formats that are built anew need
    if form != "torchscript":
        site = write_site(folder / "site", tasks=finished.tasks)
    with quiet(), torch.no_grad():
        chosen.write(module, tuple(each[:2] for each in given), folder / chosen.name)
        return largest_difference(module, chosen.read(folder / chosen.name, finished, site, module), given)


def test_what_a_file_cannot_hold_is_said_in_a_sentence(tmp_path: Path) -> None:
    edge = {"source": "mask", "target": "bright", "passes": 2}
    topology = {"kind": "cascaded", "cascade": [edge]}
    study = make_study(tasks=("bright", "mask"), topology=topology, branches={"dropout": 0.2})
    with pytest.raises(Problem, match="bright rests on Monte-Carlo passes"):
        check_exportable(untrained(study), "onnx")
    check_exportable(untrained(study), "safetensors")
    assert difference(untrained(study), "safetensors", tmp_path) == 0
    pooled = {"bright": {"kind": "binary", "group": "patient_id", "pooling": "attention"}}
    study = Study.model_validate({**make_study(tasks=("bright",)).model_dump(mode="json"), "tasks": pooled})
    with pytest.raises(Problem, match="weighs the images of a group"):
        check_exportable(untrained(study), "torchscript")


def test_a_file_that_answers_otherwise_is_not_written(
    tmp_path: Path, finished_study: tuple[Site, Study, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is a thousandth off stands for a run-time with a fault."""
    site, study, _ = finished_study
    sound = FORMATS["torchscript"]

    def faulty(path: Path, *rest: Any) -> Answer:
        read = sound.read(path, *rest)
        return lambda given: tuple(found + 1e-3 for found in as_tuple(read(given)))

    broken = type(sound)(sound.name, sound.write, faulty, sound.how)
    monkeypatch.setitem(FORMATS, "torchscript", broken)
    with pytest.raises(Problem, match="answers otherwise"):
        export_models(load_finished(site, study), site, "torchscript", tmp_path / "out", silent)
    assert list(tmp_path.iterdir()) == []
    assert read_manifest(site, study, tuple(study.tasks)).cases, "the site's own files are untouched"
