"""A bundle is what MONAI says a bundle is, and its transforms do what training does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle.config_parser import ConfigParser
from PIL import Image

from polyward_client.site import Site
from polyward_client.trainer.export.bundle import preprocessing, read_bundle
from polyward_client.trainer.export.formats import quiet
from polyward_client.trainer.export.write import export_models
from polyward_client.trainer.finished import load_finished
from polyward_client.trainer.form import shaped
from polyward_client.trainer.images import read_image
from polyward_shared.study import Image as Form
from polyward_shared.study import Study


def silent(what: str, done: int, of: int) -> None:
    pass


def test_one_bundle_for_each_task_with_its_channels(tmp_path: Path, finished_study: tuple[Site, Study, Path]) -> None:
    site, study, _ = finished_study
    finished = load_finished(site, study, tasks=("shape", "mask"))
    export_models(finished, site, "bundle", tmp_path / "out", silent)
    for task, shape, channels in (("shape", [], 3), ("mask", [16, 16], 2)):
        folder = tmp_path / "out" / task
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files == {
            *("configs/metadata.json", "configs/inference.json", "models/model.ts", "models/model.safetensors"),
            *("docs/README.md", "docs/model.json", "LICENSE"),
        }
        meta = json.loads((folder / "configs/metadata.json").read_text())["network_data_format"]
        assert meta["inputs"]["image"]["spatial_shape"] == [16, 16]
        pred = meta["outputs"]["pred"]
        assert (pred["spatial_shape"], pred["num_channels"], len(pred["channel_def"])) == (shape, channels, channels)
    with quiet():
        answer = read_bundle(tmp_path / "out" / "shape")
        [found] = answer((torch.rand(2, 1, 16, 16),))
    assert found.sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_metadata_that_do_not_fit_the_network_are_found(
    tmp_path: Path, finished_study: tuple[Site, Study, Path]
) -> None:
    site, study, _ = finished_study
    export_models(load_finished(site, study, tasks=("bright",)), site, "bundle", tmp_path / "out", silent)
    path = tmp_path / "out" / "bright" / "configs" / "metadata.json"
    meta = json.loads(path.read_text())
    meta["network_data_format"]["outputs"]["pred"]["num_channels"] = 7
    path.write_text(json.dumps(meta))
    with quiet(), pytest.raises(ValueError, match="output channel number"):
        read_bundle(tmp_path / "out" / "bright")


@pytest.mark.parametrize("intensity", ["minmax", "zscore", (20.0, 200.0)])
@pytest.mark.parametrize("size", [(16, 16), (32, 32), (12, 12)])
@pytest.mark.parametrize("colours", [1, 3])
def test_monai_s_transforms_give_the_study_s_form(
    tmp_path: Path, intensity: object, size: tuple[int, int], colours: int
) -> None:
    """Of an image of the study's proportions that keeps its size, grows, or shrinks: there the smoothing differs."""
    generator = np.random.default_rng(0)
    values = generator.integers(0, 255, (16, 16) if colours == 1 else (16, 16, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = Form.model_validate({"channels": colours, "size": size, "intensity": intensity})
    parser = ConfigParser({"all": {"_target_": "Compose", "transforms": preprocessing(image)}})
    with quiet():
        found = parser.get_parsed_content("all")({"image": str(tmp_path / "a.png")})["image"]
    wanted = shaped(read_image(tmp_path / "a.png", 2), image, where="a.png")
    assert found.shape == wanted.shape
    allowed = 1e-2 if size == (12, 12) else 1e-5
    assert np.abs(found.numpy() - wanted).max() < allowed * max(1.0, float(np.abs(wanted).max()))
