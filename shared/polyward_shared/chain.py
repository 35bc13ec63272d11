"""A hash-chained, append-only record in a JSON-lines file.

Every line holds the hash of the line before it and has one spelling only, so a deleted, reordered or changed line, if
only by a byte, breaks the chain from there on. Lines cut off at the end leave a shorter chain that is whole: who wants
to see that keeps the count or the last hash elsewhere. A line is on the disk before `append` returns.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import threading
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
        drop_torn_line(path)
        self._lock = threading.Lock()
        self._count, self._last = 0, GENESIS
        for entry in read_chain(path):
            self._count, self._last = entry["seq"] + 1, entry["hash"]

    @property
    def tip(self) -> tuple[int, str]:
        """How many lines there are, and the hash of the last one."""
        with self._lock:
            return self._count, self._last

    def append(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Adds one line and forces it to the disk; returns the line with `seq`, `prev` and `hash`. For any thread."""
        with self._lock:
            entry = {"seq": self._count, **fields, "prev": self._last}
            entry["hash"] = _hash(entry)
            fresh = not self.path.exists()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                if fresh:
                    share_with_group(descriptor, self.path.parent)
                append_line(descriptor, _line(entry))
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
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            try:
                entry = json.loads(line)
                stated = entry["hash"]
                intact = (entry["seq"], entry["prev"], _line(entry)) == (expected, last, line)
                intact = intact and _hash({k: v for k, v in entry.items() if k != "hash"}) == stated
            except (ValueError, KeyError, TypeError, RecursionError):
                intact = False
            if not intact and not line.endswith(b"\n"):
                raise Problem(
                    where,
                    "the last line is not complete: it is being written, or its writer was stopped within it",
                    remedy="look again once the node runs, which removes a line that was never finished",
                )
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


def share_with_group(descriptor: int, folder: Path) -> None:
    """Lets the folder's group do with a new file in it what it may do there, if the folder hands its group down.

    That is so (set-group-ID) in folders that two users of the machine share, and nowhere else.
    """
    mode = folder.stat().st_mode
    if mode & stat.S_ISGID:
        os.fchmod(descriptor, 0o600 | mode & 0o060)


def _line(entry: dict[str, Any]) -> bytes:
    """The one spelling of an entry."""
    return (json.dumps(entry, separators=(",", ":")) + "\n").encode()


def append_line(descriptor: int, line: bytes) -> None:
    """Appends the line and forces it to the disk; a line that does not fit there leaves nothing behind."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def drop_torn_line(path: Path) -> None:
    """A crash inside `append_line` can leave half a line; it was never acknowledged, so it goes."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)
            file.flush()
            os.fsync(file.fileno())
