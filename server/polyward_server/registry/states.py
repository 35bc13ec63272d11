"""Encoders by digest: one safetensors file each, written once, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from polyward_shared.dimensions import expanded
from polyward_shared.problems import Problem, Refused
from polyward_shared.schema import ENCODER, Flat, Named, Schema
from polyward_shared.states import read_stamp, read_state, write_state

SOURCE = "source"  # the stamp's word for the name of the file that was imported


class Registry:
    """The folder of states. A state is on the disk before its digest is told to anybody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"

    def digests(self) -> set[str]:
        """Of all states that are here."""
        return {path.stem for path in self.folder.glob("*.safetensors") if not path.name.startswith(".")}

    def add(self, schema: Schema, flat: Flat, stamp: Mapping[str, str]) -> str:
        """Keeps the state [n] and returns its digest."""
        digest = schema.state_digest(flat)
        if not self.path(digest).is_file():
            write_state(self.path(digest), schema.views(flat), {"schema": schema.to_json(), **stamp})
        return digest

    def load(self, digest: str) -> tuple[Schema, Flat]:
        """The state of this digest. Raises `Problem` when it is absent or not what its name says."""
        path = self.path(digest)
        if not path.is_file():
            raise Problem(
                str(path), "there is no such encoder in the registry", remedy="import it, or mend encoder.start"
            )
        schema, flat = read_encoder(path)
        if schema.state_digest(flat) != digest:
            raise Problem(str(path), "does not hold what its name says", remedy="take the file from a backup")
        return schema, flat

    def views(self, digest: str) -> Named:
        """The arrays of a state as they lie on the disk, mapped and not copied, unchecked."""
        return read_state(self.path(digest))

    def encoder(self, digest: str) -> tuple[Schema, Flat]:
        """The encoder alone out of a state, checked as by `load`."""
        schema, flat = self.load(digest)
        if ENCODER not in schema.groups:
            raise Problem(digest[:16], "holds no encoder", remedy="polyward-hub encoders HUB lists those that do")
        return schema.group(ENCODER), flat[schema.groups[ENCODER]]

    def import_file(self, path: Path, *, volumes: bool = False, expected: str = "") -> str:
        """Takes a safetensors file of `encoder.` arrays into the registry and returns the digest.

        `expected`: the digest that the file must have as it is.
        `volumes`: the encoder learnt from slices and is to begin a study of volumes, so its kernels are inflated.
        """
        schema, flat = read_encoder(path)
        if set(schema.groups) != {"encoder"}:
            raise Problem(
                str(path),
                f"holds the groups {sorted(schema.groups)}",
                expected="arrays whose names begin with 'encoder.' and no others",
                remedy="export the encoder alone",
            )
        if expected and schema.state_digest(flat) != expected:
            raise Problem(str(path), "is not the encoder that its release states", remedy="ask for the release again")
        if volumes:
            schema, flat = for_volumes(schema, flat)
        return self.add(schema, flat, {SOURCE: printable(path.name)})


def printable(text: str, longest: int = 255) -> str:
    """A file's name as it may be shown: it was given by anybody, and may hold line breaks or terminal controls."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)[:longest]


def for_volumes(schema: Schema, flat: Flat) -> tuple[Schema, Flat]:
    """The encoder of slices as one of volumes (`polyward_shared.dimensions`); one of volumes stays as it is."""
    arrays = expanded(dict(schema.views(flat)))
    inflated = Schema.of(arrays)
    return inflated, inflated.pack(arrays)


def read_encoder(path: Path) -> tuple[Schema, Flat]:
    """Schema and values of a safetensors file, in the order that the file's own schema stamp gives, if any."""
    arrays = read_state(path)
    stamp = read_stamp(path).get("schema")
    try:
        schema = Schema.from_json(stamp) if stamp else Schema.of(dict(sorted(arrays.items())))
        flat = schema.pack(arrays)
    except (ValueError, Refused):
        raise Problem(str(path), "its arrays are not those that its stamp names", remedy="export it again") from None
    if not all(name.isprintable() for name in arrays):
        raise Problem(str(path), "holds an array whose name has control characters", remedy="export it again")
    if not np.isfinite(flat).all():
        raise Problem(str(path), "holds values that are not finite numbers", remedy="take it from a sound training")
    return schema, flat
