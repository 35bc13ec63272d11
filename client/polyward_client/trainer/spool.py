"""Finished work of one study, where the gate finds it: the first state, updates, and records of what is done."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from polyward_client.port.interface import Done
from polyward_shared.chain import sync_folder
from polyward_shared.states import Arrays, write_state

KEPT_ROUNDS = 2


class Spool:
    """The study's folder in the spool. The gate keeps received states (`state-*`) beside what is written here."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder / study
        self.study = study
        self.first = self.folder / "first.safetensors"

    def keep_first(self, arrays: Arrays) -> None:
        write_state(self.first, arrays, {"study": self.study, "round": "0"})

    def keep_update(self, arrays: Arrays, round: int, state_digest: str) -> Path:
        """Writes an update; it counts once `keep_done` has named it."""
        path = self.folder / f"update-{round:06}-{state_digest}.safetensors"
        write_state(path, arrays, {"study": self.study, "round": str(round), "state": state_digest})
        return path

    def keep_done(self, done: Done, round: int, state_digest: str, *, final: bool) -> None:
        """The record, forced to the disk; what is two rounds older goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._record(round, state_digest, final=final)
        draft = path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            file.write(done.model_dump_json(exclude_defaults=True))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(self.folder)
        self._prune(round)

    def done(self, round: int, state_digest: str, *, final: bool) -> Done | None:
        """The record of exactly this work, if its update is there too."""
        path = self._record(round, state_digest, final=final)
        try:
            done = Done.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return done if done.update is None or Path(done.update).is_file() else None

    def _record(self, round: int, state_digest: str, *, final: bool) -> Path:
        return self.folder / f"{'final' if final else 'done'}-{round:06}-{state_digest}.json"

    def _prune(self, round: int) -> None:
        """Keeps this round and the one before; later ones belong to work that was ordered anew."""
        for kind in ("update", "done"):
            for path in self.folder.glob(f"{kind}-*"):
                if int(path.name.split("-")[1]) <= round - KEPT_ROUNDS:
                    path.unlink(missing_ok=True)
