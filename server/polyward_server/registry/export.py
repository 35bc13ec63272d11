"""A state as a file to be given away: it says what it is and where it comes from, and names no site unasked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from polyward_server.registry.lineage import Lineage
from polyward_server.registry.states import Registry
from polyward_shared.problems import Problem
from polyward_shared.schema import Flat, Schema
from polyward_shared.states import write_state


def export(
    registry: Registry,
    told: Lineage,
    path: Path,
    *,
    whole: bool = False,
    sites: bool = False,
    force: bool = False,
) -> str:
    """Writes the encoder alone, or the whole state, with its lineage; returns its digest. Raises `Problem`."""
    if path.is_dir() or not path.parent.is_dir():
        raise Problem(str(path), "cannot be a file", expected="a file's name in a folder that exists", remedy="mend it")
    if path.exists() and not force:
        raise Problem(str(path), "exists already", remedy="choose another name, or add --force to replace it")
    schema, flat = registry.load(told.state) if whole else registry.encoder(told.state)
    digest = schema.state_digest(flat)
    stamp = {"digest": digest, "lineage": json.dumps(_told(told, sites=sites), sort_keys=True)}
    write_file(path, schema, flat, stamp)
    return digest


def write_file(path: Path, schema: Schema, flat: Flat, stamp: Mapping[str, str]) -> None:
    """The state [n] as a file of its own. Raises `Problem` where it cannot be written."""
    try:
        write_state(path, schema.views(flat), stamped(schema, stamp))
    except OSError as error:
        raise unwritten(path, error) from None


def unwritten(path: Path, error: OSError) -> Problem:
    """What to tell of a file that the disk or its folder does not take."""
    return Problem(str(path), f"cannot be written ({error.strerror})", remedy="choose another folder, or make room")


def stamped(schema: Schema, stamp: Mapping[str, str]) -> dict[str, str]:
    """What every file of ours says of itself: the order of its arrays, and the rest."""
    return {"schema": schema.to_json(), **stamp}


def _told(told: Lineage, *, sites: bool) -> dict[str, object]:
    kept = {"study", "study_id", "source", "round", "at", "rule", "ancestry"}
    return told.model_dump(mode="json", include=kept | ({"shares"} if sites else set()))
