"""Encoders from elsewhere: remembered with what their release says, and refused where that is not sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from polyward_server.registry.catalogue import Brought
from polyward_server.registry.imports import bring
from polyward_server.registry.lineage import descents
from polyward_server.registry.release import Signer, write_release
from polyward_server.tables import imports
from polyward_shared import pki
from polyward_shared.problems import Problem
from polyward_shared.states import write_state
from tests.server.registry.conftest import Shelf, released

OURS = pki.new_authority("ours")[1]


def plain_file(folder: Path, name: str = "mine.safetensors") -> Path:
    write_state(folder / name, {"encoder.w": np.ones(3, np.float32)}, {})
    return folder / name


def test_a_file_is_remembered_once_under_a_printable_name(either: Shelf, tmp_path: Path) -> None:
    path = plain_file(tmp_path, "evil\n\x1b[2J[red].safetensors")
    for _ in range(2):
        state, stated = bring(either.ledger, either.registry, path, ours=OURS, actor="ada")
    origin = either.origin(state)
    assert isinstance(origin, Brought)
    assert stated is None
    assert (origin.source.isprintable(), origin.lineage) == (True, {})
    told = [noted.event for noted in either.ledger.noted() if noted.event.what == "imported"]
    assert [(event.actor, event.detail) for event in told] == [("ada", f"{state} from {origin.source}")]
    assert [each.kind for each in either.lineage(state).ancestry] == ["import"]


@pytest.fixture
def elsewhere(shelf: Shelf, tmp_path: Path, signer: Signer) -> Path:
    """The file of a release of another hub's; this one forgets that it is its own."""
    arrays, _ = write_release(shelf.registry, shelf.pilot[2], released(shelf, signer), tmp_path / "given")
    return arrays


def test_a_release_brings_its_ancestry(shelf: Shelf, elsewhere: Path, signer: Signer, tmp_path: Path) -> None:
    fingerprint = pki.authority_fingerprint(signer.authority)
    state, stated = bring(
        shelf.ledger, shelf.registry, elsewhere, ours=OURS, fingerprint=fingerprint.upper(), actor="ada"
    )
    assert state == shelf.pilot[2]
    assert stated is not None
    with shelf.ledger.engine.connect() as db:
        kept = json.loads(db.execute(sa.select(imports.c.lineage)).scalar_one())
    origin = Brought(state, elsewhere.name, kept, shelf.origin(state).at)
    catalogue = shelf.catalogue
    catalogue.origins[state] = origin
    assert [(d.kind, d.name, d.hub) for d in descents(shelf.ledger, catalogue, origin)] == [
        ("import", "pilot-1.0.safetensors", "north hub"),
        ("study", "pilot", "north hub"),
        ("seed", "5", "north hub"),
    ]


def cut(arrays: Path, statement: Path) -> None:
    arrays.write_bytes(arrays.read_bytes()[:-4] + b"\x00\x00\x00\x00")


def boast(arrays: Path, statement: Path) -> None:
    statement.write_text(statement.read_text().replace('"sites": 2', '"sites": 200'))


@pytest.mark.parametrize("change", [cut, boast])
def test_a_release_that_was_changed_is_not_imported(
    shelf: Shelf, elsewhere: Path, signer: Signer, change: Callable[[Path, Path], None]
) -> None:
    change(elsewhere, elsewhere.with_suffix(".json"))
    with pytest.raises(Problem, match="changed"):
        bring(shelf.ledger, shelf.registry, elsewhere, ours=signer.authority, actor="ada")
    assert shelf.catalogue.brought == {}


def test_whom_to_trust_must_be_said(shelf: Shelf, elsewhere: Path, signer: Signer) -> None:
    with pytest.raises(Problem, match="to be told whom you trust"):
        bring(shelf.ledger, shelf.registry, elsewhere, ours=OURS, actor="ada")
    with pytest.raises(Problem, match="comes from the authority"):
        bring(shelf.ledger, shelf.registry, elsewhere, ours=OURS, authority=OURS, actor="ada")
    bring(shelf.ledger, shelf.registry, elsewhere, ours=signer.authority, actor="ada")


def test_trust_without_a_release_is_a_mistake(shelf: Shelf, tmp_path: Path) -> None:
    path = plain_file(tmp_path)
    path.with_suffix(".json").write_text('{"notes": "no release"}')
    with pytest.raises(Problem, match="has no release beside it"):
        bring(shelf.ledger, shelf.registry, path, ours=OURS, authority=OURS, actor="ada")
    bring(shelf.ledger, shelf.registry, path, ours=OURS, actor="ada")
