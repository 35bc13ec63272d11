"""The schema of what may cross: names, shapes and order of the shared arrays, all float32.

Shared arrays travel as one flat vector in the schema's order, so that names need not be sent: equal digests mean
equal names, shapes and order. A schema consists of *groups*, each aggregated on its own: `encoder`, `branches.<task>`
where branches cross, and `precision` or `statistics` where the study's rules need them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyward_shared.problems import Code, Refused

Flat = NDArray[np.float32]
Named = Mapping[str, NDArray[np.float32]]

ENCODER = "encoder"
BRANCHES = "branches"
PRECISION = "precision"  # how sure a site is of each value of the encoder: `precision.encoder.conv.weight`
STATISTICS = "statistics"  # moments that batch norms have seen: `statistics.encoder.norm.mean`, `.square`


def group_of(name: str) -> str:
    """`encoder.conv.weight` -> `encoder`; `branches.mask.head.bias` -> `branches.mask`."""
    first, _, rest = name.partition(".")
    return f"{BRANCHES}.{rest.partition('.')[0]}" if first == BRANCHES else first


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array that may cross."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


MOST_DIMENSIONS = 8
LARGEST = 2**40  # values of one array


def _sound(spec: ArraySpec) -> bool:
    if not isinstance(spec.name, str) or len(spec.shape) > MOST_DIMENSIONS:
        return False
    within = all(type(side) is int and 0 < side < LARGEST for side in spec.shape)
    named = not spec.name.startswith(f"{BRANCHES}.") or len(spec.name.split(".", 2)) == 3  # branches.<task>.<array>
    return within and named and spec.size < LARGEST


@dataclass(frozen=True)
class Schema:
    """The ordered list of arrays that may cross between one site and the hub."""

    arrays: tuple[ArraySpec, ...]

    @cached_property
    def size(self) -> int:
        """Number of float32 values."""
        return sum(spec.size for spec in self.arrays)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps([[spec.name, list(spec.shape)] for spec in self.arrays], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Raises ValueError for anything that `to_json` does not write, and for groups that lie in pieces."""
        try:
            entries = json.loads(text)
            schema = cls(tuple(ArraySpec(name, tuple(shape)) for name, shape in entries))
            sound = schema.to_json() == text and all(_sound(spec) for spec in schema.arrays)
        except (ValueError, TypeError, RecursionError):
            sound = False
        if not sound:
            raise ValueError("a schema is a list of [name, shape] in one spelling")
        names = [spec.name for spec in schema.arrays]
        if len(set(names)) != len(names) or sum(where.stop - where.start for where in schema.groups.values()) != (
            schema.size
        ):
            raise ValueError("a schema needs distinct names, and the arrays of a group one after the other")
        return schema

    @classmethod
    def of(cls, arrays: Named) -> Schema:
        """The schema of these arrays, groups in order: the encoder first, then branches by name."""
        names = sorted(arrays, key=lambda name: (group_of(name) != ENCODER, group_of(name)))  # stable in a group
        return cls(tuple(ArraySpec(name, tuple(arrays[name].shape)) for name in names))

    @cached_property
    def groups(self) -> dict[str, slice]:
        """Where each group lies in the flat vector."""
        found: dict[str, slice] = {}
        start = 0
        for spec in self.arrays:
            group = group_of(spec.name)
            begin = found[group].start if group in found else start
            start += spec.size
            found[group] = slice(begin, start)
        return found

    def group(self, name: str) -> Schema:
        """The part of the schema that belongs to one group."""
        return Schema(tuple(spec for spec in self.arrays if group_of(spec.name) == name))

    def check(self, arrays: Named) -> None:
        """Raises `Refused` unless `arrays` are exactly the named ones, with shape and dtype."""
        wanted = {spec.name: spec.shape for spec in self.arrays}
        if extra := sorted(set(arrays) - set(wanted)):
            raise Refused(Code.EGRESS_SCHEMA, f"{len(extra)} arrays that the schema does not name: {extra[:3]}")
        if missing := sorted(set(wanted) - set(arrays)):
            raise Refused(Code.EGRESS_SCHEMA, f"{len(missing)} arrays are missing: {missing[:3]}")
        for name, shape in wanted.items():
            array = arrays[name]
            if tuple(array.shape) != shape or array.dtype != np.float32:
                raise Refused(
                    Code.EGRESS_SCHEMA,
                    f"{name} is {array.dtype}{tuple(array.shape)}, expected float32{shape}",
                )

    def pack(self, arrays: Named) -> Flat:
        """All arrays one after the other: float32 [size]. Checked first."""
        self.check(arrays)
        flat = np.empty(self.size, np.float32)
        for name, view in self.views(flat).items():
            view[...] = arrays[name]
        return flat

    def views(self, flat: Flat) -> dict[str, NDArray[np.float32]]:
        """The named arrays inside `flat` [size], without copying."""
        if flat.shape != (self.size,):
            raise ValueError(f"expected {self.size} values, found shape {flat.shape}")
        views: dict[str, NDArray[np.float32]] = {}
        start = 0
        for spec in self.arrays:
            views[spec.name] = flat[start : start + spec.size].reshape(spec.shape)
            start += spec.size
        return views

    def state_digest(self, flat: Flat) -> str:
        """SHA-256 over the schema and the values: the name of an encoder for ever (little-endian float32)."""
        running = hashlib.sha256(self.digest.encode())
        running.update(np.ascontiguousarray(flat, dtype="<f4").data)
        return running.hexdigest()

    def group_digests(self, flat: Flat) -> dict[str, str]:
        """The digest of each group on its own."""
        return {name: self.group(name).state_digest(flat[where]) for name, where in self.groups.items()}
