"""What stays at the site: one file per round with the personal arrays, and one for the finished study.

A file is whole or absent, and carries a digest of its content. A damaged one is never passed over in silence: going on
from an older round is a person's decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyward_shared.problems import Problem
from polyward_shared.states import Arrays, read_stamp, read_state, write_state

KEPT_ROUNDS = 3
FINAL = "final.safetensors"


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept state: of which round, and the digest of the shared state that the round started from."""

    path: Path
    round: int
    state_digest: str


class Vault:
    """The folder of one study."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder / study
        self.study = study

    def keep(self, arrays: Arrays, *, round: int, state_digest: str, tasks: tuple[str, ...]) -> None:
        """Writes this round's personal arrays, then removes those that are three rounds older."""
        self._write(self._path(round), arrays, round, state_digest, tasks)
        for old in self._rounds(below=round)[: -(KEPT_ROUNDS - 1)]:
            self._path(old).unlink()

    def keep_final(self, arrays: Arrays, *, round: int, state_digest: str, tasks: tuple[str, ...]) -> None:
        """Writes the whole model of the finished study, encoder included."""
        self._write(self.folder / FINAL, arrays, round, state_digest, tasks)

    def latest_before(self, round: int) -> Entry | None:
        """The newest entry of an earlier round."""
        rounds = self._rounds(below=round)
        return self._entry(self._path(rounds[-1])) if rounds else None

    def final(self) -> Entry | None:
        path = self.folder / FINAL
        return self._entry(path) if path.exists() else None

    def arrays(self, entry: Entry) -> Arrays:
        """The entry's arrays, checked against the digest that was kept with them. Raises `Problem`."""
        arrays = read_state(entry.path)
        if read_stamp(entry.path).get("content") != _content(arrays):
            raise _damaged(entry.path)
        return arrays

    def _write(self, path: Path, arrays: Arrays, round: int, state_digest: str, tasks: tuple[str, ...]) -> None:
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stamp = {
            "study": self.study,
            "round": str(round),
            "state": state_digest,
            "tasks": ",".join(tasks),
            "content": _content(arrays),
        }
        write_state(path, arrays, stamp)

    def _entry(self, path: Path) -> Entry:
        try:
            stamp = read_stamp(path)
            entry = Entry(path, int(stamp["round"]), stamp["state"])
        except (Problem, KeyError, ValueError):
            raise _damaged(path) from None
        if stamp.get("study") != self.study:
            raise Problem(str(path), "belongs to another study", remedy="move it back to where it was")
        return entry

    def _path(self, round: int) -> Path:
        return self.folder / f"round-{round:06}.safetensors"

    def _rounds(self, *, below: int) -> list[int]:
        numbers = sorted(int(path.stem.removeprefix("round-")) for path in self.folder.glob("round-*.safetensors"))
        return [number for number in numbers if number < below]


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
        running.update(f"{name} {arrays[name].shape}".encode())
        running.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return running.hexdigest()
