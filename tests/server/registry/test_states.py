"""Encoders by digest: what is told is on the disk, and what is read is what its name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyward_server.registry.states import Registry
from polyward_shared.problems import Problem
from polyward_shared.states import read_stamp, write_state
from tests.support.toy_trainer import first_state, toy_schema, toy_study

SCHEMA = toy_schema(toy_study(), ("mask",))
FLAT = first_state(SCHEMA)


def test_what_is_added_is_found_under_its_digest(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    digest = registry.add(SCHEMA, FLAT, {"round": "0"})
    assert digest == SCHEMA.state_digest(FLAT)
    schema, flat = registry.load(digest)
    assert schema == SCHEMA
    assert flat.tobytes() == FLAT.tobytes()
    assert read_stamp(registry.path(digest))["round"] == "0"


def test_a_state_is_written_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    digest = registry.add(SCHEMA, FLAT, {"round": "0"})
    registry.add(SCHEMA, FLAT, {"round": "9"})
    assert read_stamp(registry.path(digest))["round"] == "0"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    digest = registry.add(SCHEMA, FLAT, {})
    other = registry.add(SCHEMA, FLAT + 1, {})
    registry.path(other).replace(registry.path(digest))
    with pytest.raises(Problem, match="does not hold what its name says"):
        registry.load(digest)
    with pytest.raises(Problem, match="no such encoder in the registry"):
        registry.load("f" * 64)
    registry.path(digest).write_bytes(b"x" * 100)
    with pytest.raises(Problem, match="damaged"):
        registry.load(digest)


def test_an_import_of_an_encoder(tmp_path: Path) -> None:
    arrays = {"encoder.b": np.ones(3, np.float32), "encoder.a": np.zeros((2, 2), np.float32)}
    write_state(tmp_path / "mine.safetensors", arrays, {})
    registry = Registry(tmp_path / "registry")
    digest = registry.import_file(tmp_path / "mine.safetensors")
    schema, flat = registry.load(digest)
    assert {name: view.tolist() for name, view in schema.views(flat).items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert registry.import_file(registry.path(digest)) == digest


def test_an_encoder_of_slices_is_inflated_for_volumes(tmp_path: Path) -> None:
    kernel = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    write_state(tmp_path / "flat.safetensors", {"encoder.a": kernel, "encoder.b": np.ones(1, np.float32)}, {})
    registry = Registry(tmp_path / "registry")
    digest = registry.import_file(tmp_path / "flat.safetensors", volumes=True)
    schema, flat = registry.load(digest)
    found = schema.views(flat)["encoder.a"]
    assert found[..., 1].tolist() == kernel.tolist()
    assert not found[..., [0, 2]].any()
    assert registry.import_file(registry.path(digest), volumes=True) == digest, "one of volumes stays as it is"


@pytest.mark.parametrize(
    ("arrays", "stamp", "message"),
    [
        (
            {"encoder.a": np.ones(1), "branches.mask.w": np.ones(1)},
            {},
            r"holds the groups \['branches.mask', 'encoder'",
        ),
        ({"weight": np.ones(1)}, {}, "begin with 'encoder.'"),
        ({"encoder.a": np.array([np.nan])}, {}, "not finite"),
        ({"encoder.a": np.ones(1)}, {"schema": "nonsense"}, "not those that its stamp names"),
        ({"encoder.a": np.ones(1)}, {"schema": '[["encoder.b",[1]]]'}, "not those that its stamp names"),
        ({}, {}, r"holds the groups \[\]"),
        ({"encoder.\x1b[2J": np.ones(1)}, {}, "name has control characters"),
    ],
)
def test_what_cannot_be_imported(
    tmp_path: Path, arrays: dict[str, np.ndarray], stamp: dict[str, str], message: str
) -> None:
    write_state(tmp_path / "a.safetensors", {k: v.astype(np.float32) for k, v in arrays.items()}, stamp)
    with pytest.raises(Problem, match=message):
        Registry(tmp_path / "registry").import_file(tmp_path / "a.safetensors")
    assert list((tmp_path / "registry").iterdir()) == []
