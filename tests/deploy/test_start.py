"""A study that begins with an encoder from a file: the study names it, and slices become volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyward_deploy.recipes.catalogue import find
from polyward_deploy.start import started
from polyward_server.registry import Registry, read_encoder
from polyward_shared.problems import Problem
from polyward_shared.states import write_state

KERNEL = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3)


def encoder_file(folder: Path, **further: np.ndarray) -> Path:
    path = folder / "encoder.safetensors"
    write_state(path, {"encoder.a": KERNEL, "encoder.b": np.ones(2, np.float32), **further}, {})
    return path


def test_a_study_of_slices_starts_with_the_arrays_as_they_are(tmp_path: Path) -> None:
    study, file = started(find("glaucoma_refuge").study, encoder_file(tmp_path), tmp_path / "run")
    schema, flat = read_encoder(file)
    np.testing.assert_array_equal(schema.views(flat)["encoder.a"], KERNEL)
    assert study.encoder.start == schema.state_digest(flat)
    assert Registry(tmp_path / "registry").import_file(file) == study.encoder.start


def test_a_study_of_volumes_starts_with_inflated_kernels(tmp_path: Path) -> None:
    _, file = started(find("inflate_2d3d").study, encoder_file(tmp_path), tmp_path / "run")
    schema, flat = read_encoder(file)
    kernel = schema.views(flat)["encoder.a"]
    assert kernel.shape == (2, 1, 3, 3, 3)
    np.testing.assert_array_equal(kernel[..., 1], KERNEL)
    assert not kernel[..., 0].any()
    assert not kernel[..., 2].any()


def test_branches_in_the_file_are_left_behind(tmp_path: Path) -> None:
    path = encoder_file(tmp_path, **{"branches.t.weight": np.ones(3, np.float32)})
    _, file = started(find("glaucoma_refuge").study, path, tmp_path / "run")
    assert set(read_encoder(file)[0].groups) == {"encoder"}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"nothing\.safetensors.*no such file"):
        started(find("glaucoma_refuge").study, tmp_path / "nothing.safetensors", tmp_path / "run")
    assert not (tmp_path / "run").exists()
