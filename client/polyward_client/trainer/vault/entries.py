"""One file of the vault: a safetensors file with a stamp, sealed where the site has a key.

A plain one is read all the same, so that a key may come later.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyward_client.trainer.vault.keys import Key, Ring
from polyward_client.trainer.vault.seal import content_length, is_sealed, seal, unsealed
from polyward_shared.messages import Kept
from polyward_shared.problems import Problem
from polyward_shared.states import Arrays, read_stamp, read_state, stamp_in, state_in, state_parts
from polyward_shared.whole import whole_file


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept state: of which round, and the digest of the shared state that the round started from.

    `kept`, after the end: the model whose arrays answer for each task.
    """

    path: Path
    round: int
    state_digest: str
    kept: dict[str, Kept] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


def entry_parts(
    arrays: Arrays, *, study: str, round: int, state_digest: str, tasks: tuple[str, ...], kept: Mapping[str, Kept]
) -> list[memoryview]:
    """The bytes of a file with these arrays, in order."""
    stamp = {
        "study": study,
        "round": str(round),
        "state": state_digest,
        "tasks": ",".join(tasks),
        "kept": json.dumps(kept, sort_keys=True),
        "content": _content(arrays),
    }
    return state_parts(arrays, stamp)


def write_entry(
    path: Path,
    parts: Iterable[memoryview],
    *,
    length: int,
    study: str,
    key: Key | None,
    date: tuple[int, int] | None = None,
) -> None:
    """Writes a file of `length` bytes, sealed if there is a key; whole or not at all.

    `date`: when it was last read and changed, in nanoseconds since 1970, if not now.
    """
    with whole_file(path) as file:
        if key:
            seal(file, parts, length=length, key=key, place=_place(path, study))
        else:
            file.writelines(parts)
        if date:
            file.flush()
            os.utime(file.fileno(), ns=date)


def read_entry(path: Path, *, study: str, ring: Ring | None) -> Entry:
    """What a file of this study says of itself. Raises `Problem`."""
    try:
        stamp = _stamp(path, study, ring)
        tasks = tuple(stamp["tasks"].split(","))
        entry = Entry(path, int(stamp["round"]), stamp["state"], json.loads(stamp["kept"]), tasks)
    except (KeyError, ValueError):
        raise _damaged(path) from None
    if stamp.get("study") != study:
        raise Problem(str(path), "belongs to another study", remedy="move it back to where it was")
    return entry


def read_arrays(path: Path, *, study: str, ring: Ring | None) -> Arrays:
    """The file's arrays, checked against the digest that was kept with them. Raises `Problem`."""
    if is_sealed(path):
        data = memoryview(bytearray(content_length(path)))
        at = 0
        for piece in unsealed(path, ring, _place(path, study)):
            data[at : at + len(piece)] = piece
            at += len(piece)
        arrays, stamp = state_in(data.toreadonly(), str(path))
    else:
        arrays, stamp = read_state(path), read_stamp(path)
    if stamp.get("content") != _content(arrays):
        raise _damaged(path)
    return arrays


def reseal(path: Path, *, study: str, ring: Ring | None, key: Key) -> None:
    """Seals a file with this key, in its place and under its date. Raises `Problem` for one that cannot be read."""
    date = path.stat()
    if is_sealed(path):
        length, pieces = content_length(path), unsealed(path, ring, _place(path, study))
    else:
        read_arrays(path, study=study, ring=ring)  # damage must not be sealed
        plain = path.read_bytes()
        length, pieces = len(plain), iter((plain,))
    parts = (memoryview(piece) for piece in pieces)
    write_entry(path, parts, length=length, study=study, key=key, date=(date.st_atime_ns, date.st_mtime_ns))


def _stamp(path: Path, study: str, ring: Ring | None) -> dict[str, str]:
    if not is_sealed(path):
        try:
            return read_stamp(path)
        except Problem:
            raise _damaged(path) from None
    begun = b""
    for piece in unsealed(path, ring, _place(path, study)):
        begun += piece
        if (stamp := stamp_in(memoryview(begun), str(path))) is not None:
            return stamp
    return {}


def _place(path: Path, study: str) -> str:
    """What a seal binds a file to. Setting it aside keeps its name."""
    return f"{study}/{path.name}"


def _damaged(path: Path) -> Problem:
    return Problem(
        str(path),
        "is damaged",
        expected="the branches as this site wrote them",
        remedy="restore it from a backup, or move it away to go on from the round before",
    )


def _content(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    running = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], "<f4", order="C")
        running.update(f"{name} {array.shape}".encode())
        running.update(array.reshape(-1).view(np.uint8).data)
    return running.hexdigest()
