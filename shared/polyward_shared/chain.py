"""A hash-chained, append-only record in a JSON-lines file.

Every line holds the hash of the line before it, so a deleted, changed or reordered line breaks the chain from there
on. A line is on the disk before `append` returns.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyward_shared.problems import Problem

GENESIS = "0" * 64


class Chain:
    """The record in `path`, opened for appending by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        self._count, self._last = 0, GENESIS
        for entry in read_chain(path):
            self._count, self._last = entry["seq"] + 1, entry["hash"]

    def append(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Adds one line and forces it to the disk; returns the line with `seq`, `prev` and `hash`."""
        entry = {"seq": self._count, **fields, "prev": self._last}
        entry["hash"] = _hash(entry)
        fresh = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (json.dumps(entry, separators=(",", ":")) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            sync_folder(self.path.parent)
        self._count, self._last = self._count + 1, entry["hash"]
        return entry


def read_chain(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of the record, each checked against the one before. Raises `Problem` at the first break."""
    if not path.exists():
        return
    expected, last = 0, GENESIS
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            try:
                entry = json.loads(line)
                stated = entry["hash"]
                intact = entry["seq"] == expected and entry["prev"] == last
                intact = intact and _hash({k: v for k, v in entry.items() if k != "hash"}) == stated
            except (json.JSONDecodeError, KeyError, TypeError):
                intact = False
            if not intact:
                raise Problem(
                    where,
                    "the chain is broken: this line or the one before it was changed, removed or moved",
                    remedy="keep the file as it is and compare it with a backup",
                )
            expected, last = expected + 1, stated
            yield entry


def sync_folder(folder: Path) -> None:
    """Forces a rename or a new file in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _drop_torn_line(path: Path) -> None:
    """A crash inside `append` can leave half a line; it was never acknowledged, so it goes."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)
            file.flush()
            os.fsync(file.fileno())
