"""What stays at the site: one file per round with the personal arrays, and one for the finished study.

A file holds several models side by side: the federated one's arrays under their own names, those of the models that
are trained beside it under `alone.` and `ditto.`, and under `previous.` the encoder that the site gave last.

A file is whole or absent, and carries a digest of its content. A damaged one is never passed over in silence: going on
from an older round is a person's decision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyward_shared.messages import Kept
from polyward_shared.problems import Problem
from polyward_shared.states import Arrays, read_stamp, read_state, write_state

KEPT_ROUNDS = 3
FINAL = "final.safetensors"
BESIDE = ("alone", "ditto", "previous")


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept state: of which round, and the digest of the shared state that the round started from.

    `kept`, after the end: the model whose arrays answer for each task.
    """

    path: Path
    round: int
    state_digest: str
    kept: dict[str, Kept] = field(default_factory=dict)


class Vault:
    """The folder of one study."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder / study
        self.study = study

    def keep(self, arrays: Arrays, *, round: int, state_digest: str, tasks: tuple[str, ...]) -> None:
        """Writes this round's personal arrays, then removes those that are three rounds older."""
        self._write(self._path(round), arrays, round, state_digest, tasks, {})
        for old in self._rounds(below=round)[: -(KEPT_ROUNDS - 1)]:
            self._path(old).unlink()

    def keep_final(
        self, arrays: Arrays, *, round: int, state_digest: str, tasks: tuple[str, ...], kept: Mapping[str, Kept]
    ) -> None:
        """Writes the whole models of the finished study, encoders included, and which of them each task keeps."""
        self._write(self.folder / FINAL, arrays, round, state_digest, tasks, kept)

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

    def _write(
        self,
        path: Path,
        arrays: Arrays,
        round: int,
        state_digest: str,
        tasks: tuple[str, ...],
        kept: Mapping[str, Kept],
    ) -> None:
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stamp = {
            "study": self.study,
            "round": str(round),
            "state": state_digest,
            "tasks": ",".join(tasks),
            "kept": json.dumps(kept, sort_keys=True),
            "content": _content(arrays),
        }
        write_state(path, arrays, stamp)

    def _entry(self, path: Path) -> Entry:
        try:
            stamp = read_stamp(path)
            entry = Entry(path, int(stamp["round"]), stamp["state"], json.loads(stamp["kept"]))
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


def side_by_side(models: Mapping[str, Arrays]) -> Arrays:
    """The arrays of several models as one state: `federated` and those that `BESIDE` names."""
    return {
        name if model == "federated" else f"{model}.{name}": array
        for model, arrays in models.items()
        for name, array in arrays.items()
    }


def taken_apart(arrays: Arrays) -> dict[str, Arrays]:
    """The reverse of `side_by_side`; a model without arrays is absent."""
    models: dict[str, Arrays] = {}
    for name, array in arrays.items():
        first, _, rest = name.partition(".")
        model, own = (first, rest) if first in BESIDE else ("federated", name)
        models.setdefault(model, {})[own] = array
    return models


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
