"""Releases: signed, immutable, written again byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyward_server.registry.release import Signer, read_released, release, write_release
from polyward_server.registry.tags import tag
from polyward_shared.problems import Problem
from polyward_shared.releases import check_release
from tests.server.registry.conftest import PILOT, Shelf, released


def test_what_is_stated(shelf: Shelf, signer: Signer, tmp_path: Path) -> None:
    signed = released(shelf, signer)
    write_release(shelf.registry, shelf.pilot[2], signed, tmp_path)
    checked = check_release(tmp_path / "pilot-1.0.json", authority=signer.authority)
    stated = checked.release.statement
    assert (stated.name, stated.hub, stated.encoder, stated.notes) == (
        "pilot-1.0",
        "north hub",
        shelf.pilot[2],
        "Bright\nlines.",
    )
    assert (stated.study, stated.round, stated.rule, stated.sites) == (PILOT.digest(), 2, "mean", 2)
    assert (stated.samples, stated.labels) == ("20-49", {"mask": "20-49"}), "48 images, 38 labels"
    [figure] = stated.figures
    assert (figure.task, figure.metric, figure.stage, figure.primary) == ("mask", "dice", "trained", True)
    assert [(each.value, each.cases) for each in figure.values] == [(0.25, "20-49"), (0.75, "20-49")]
    event = shelf.ledger.noted()[-1].event
    assert (event.what, event.study, event.round, event.actor) == ("released", PILOT.digest(), 2, "ada")
    assert stated.file in event.detail


@pytest.mark.parametrize("sites", [False, True])
def test_sites_are_named_only_if_asked(shelf: Shelf, signer: Signer, tmp_path: Path, sites: bool) -> None:
    signed = released(shelf, signer, sites=sites)
    text = b"".join(path.read_bytes() for path in write_release(shelf.registry, shelf.pilot[2], signed, tmp_path))
    assert (b'"south"' in text) == sites
    assert signed.statement.site_names == (("north", "south") if sites else ())


def test_a_release_never_changes(either: Shelf, signer: Signer) -> None:
    first = released(either, signer)
    with pytest.raises(Problem, match="is a release already"):
        released(either, signer, state=1)
    assert read_released(either.ledger, "pilot-1.0") == (either.pilot[2], first)
    with pytest.raises(Problem, match="is the name of a release"):
        tag(either.ledger, either.origin(either.pilot[1]), "pilot-1.0", actor="ada", move=True)
    tag(either.ledger, either.origin(either.pilot[1]), "best", actor="ada")
    with pytest.raises(Problem, match="is a tag already"):
        released(either, signer, "best")
    assert either.catalogue.releases == {"pilot-1.0": either.pilot[2]}
    assert either.catalogue.named("pilot-1.0") == either.pilot[2]


def test_its_files_are_written_again_byte_for_byte(shelf: Shelf, signer: Signer, tmp_path: Path) -> None:
    signed = released(shelf, signer)
    files = write_release(shelf.registry, shelf.pilot[2], signed, tmp_path / "one")
    tag(shelf.ledger, shelf.origin(shelf.pilot[2]), "best", actor="ada")  # what is known later changes nothing
    state, kept = read_released(shelf.ledger, "pilot-1.0")
    again = write_release(shelf.registry, state, kept, tmp_path / "other")
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
    write_release(shelf.registry, state, kept, tmp_path / "other")
    again[1].write_text("{}")
    with pytest.raises(Problem, match="exists already and is another file"):
        write_release(shelf.registry, state, kept, tmp_path / "other")
    assert again[1].read_text() == "{}"
    (tmp_path / "taken").touch()
    with pytest.raises(Problem, match="cannot be written"):
        write_release(shelf.registry, state, kept, tmp_path / "taken")


@pytest.mark.parametrize("name", ["", "a b", "../up", "cafebabe", "x" * 64])
def test_what_is_no_name_of_a_release(shelf: Shelf, signer: Signer, name: str) -> None:
    with pytest.raises(Problem):
        released(shelf, signer, name)
    assert shelf.catalogue.releases == {}


def test_a_release_that_is_none(shelf: Shelf) -> None:
    with pytest.raises(Problem, match="is no release of this hub"):
        read_released(shelf.ledger, "pilot-9")


def test_branches_stay_here(shelf: Shelf, signer: Signer, tmp_path: Path) -> None:
    state = shelf.branched[1]
    told, origin = shelf.lineage(state), shelf.origin(state)
    signed = release(shelf.ledger, shelf.registry, told, origin, "b-1", signer, notes="", sites=False, actor="ada")
    arrays, _ = write_release(shelf.registry, state, signed, tmp_path)
    assert b"branches" not in arrays.read_bytes()
    assert signed.statement.encoder == shelf.encoders[1]
    assert json.loads(shelf.lineage(state).model_dump_json())["state"] == state
