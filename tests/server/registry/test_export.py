"""What leaves as a file says what it is, and names no site unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyward_server.registry import Registry
from polyward_server.registry.export import export
from polyward_shared.problems import Problem
from polyward_shared.states import read_stamp
from tests.server.registry.conftest import Shelf


def test_the_encoder_alone_comes_back_under_its_own_digest(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    told = shelf.lineage(shelf.branched[1])
    assert export(shelf.registry, told, path) == shelf.encoders[1]
    assert Registry(tmp_path / "elsewhere").import_file(path) == shelf.encoders[1]
    stamp = read_stamp(path)
    said = json.loads(stamp["lineage"])
    assert stamp["digest"] == shelf.encoders[1]
    assert (said["study_id"], said["round"], said["rule"]) == ("follow-up", 1, "mean")
    assert [each["kind"] for each in said["ancestry"]] == ["study", "study", "seed"]


def test_the_whole_state_has_the_branches(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    assert export(shelf.registry, shelf.lineage(shelf.branched[1]), path, whole=True) == shelf.branched[1]
    assert b"branches.mask.w" in path.read_bytes()


@pytest.mark.parametrize("sites", [False, True])
def test_sites_are_named_only_if_asked(shelf: Shelf, tmp_path: Path, sites: bool) -> None:
    path = tmp_path / "mine.safetensors"
    export(shelf.registry, shelf.lineage(shelf.pilot[2]), path, sites=sites)
    assert (b"north" in path.read_bytes()) == sites


def test_a_file_is_replaced_only_by_force(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"precious")
    told = shelf.lineage(shelf.pilot[2])
    with pytest.raises(Problem, match="exists already"):
        export(shelf.registry, told, path)
    assert path.read_bytes() == b"precious"
    export(shelf.registry, told, path, force=True)
    assert read_stamp(path)["digest"] == shelf.pilot[2]
    for wrong in (tmp_path, tmp_path / "nowhere" / "mine.safetensors"):
        with pytest.raises(Problem, match="folder that exists"):
            export(shelf.registry, told, wrong, force=True)
