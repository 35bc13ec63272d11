"""What a runner puts straight when it starts, and what it leaves alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from polyward_server import coordination
from polyward_server.lease import Lease
from polyward_server.ledger import Ledger
from polyward_server.reconciliation import DRAFT_SECONDS, reconcile, unnamed_states
from polyward_server.records import Round, State
from polyward_server.registry import Registry
from polyward_shared.schema import Schema
from tests.support.toy_trainer import toy_study


def test_what_ran_is_taken_up_and_everything_else_stays(tmp_path: Path) -> None:
    ledger, registry = Ledger(tmp_path / "ledger.db"), Registry(tmp_path / "registry")
    running, waiting, theirs, paused, queued, draft = (toy_study(id=name) for name in "abcdef")
    for study in (running, waiting, theirs, paused, queued):
        coordination.enqueue(ledger, study, "ada")
    coordination.draft(ledger, draft, "ada")
    for study in (running, theirs):
        ledger.set_state(study.digest(), State.RUNNING)
    ledger.set_state(waiting.digest(), State.WAITING, "away: north")
    coordination.pause(ledger, paused.digest(), "ada")
    assert Lease(ledger.engine, theirs.digest(), "another hub").take()
    reconcile(ledger, registry, "this hub")
    states = [ledger.study_state(s.digest())[0] for s in (running, waiting, theirs, paused, queued, draft)]
    assert states == ["resuming", "resuming", "running", "paused", "queued", "draft"]
    assert not Lease(ledger.engine, running.digest(), "another hub").take()
    ledger.close()


def test_what_an_interrupted_round_left_goes_and_states_stay(tmp_path: Path) -> None:
    ledger, registry = Ledger(tmp_path / "ledger.db"), Registry(tmp_path / "registry")
    digest = ledger.queue(toy_study())
    kept, orphan = (registry.add(Schema.of({"encoder.w": row}), row, {}) for row in np.eye(2, dtype=np.float32))
    ledger.commit_round(digest, Round(0, kept, "e" * 64, 0.0))
    (registry.folder / ".round-0123" / "0").mkdir(parents=True)
    old, new = (registry.folder / f".{'a' * 64}.safetensors.{name}" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    past = time.time() - DRAFT_SECONDS - 1
    os.utime(old, (past, past))
    assert unnamed_states(ledger, registry) == [orphan]
    reconcile(ledger, registry, "this hub")
    assert {path.name for path in registry.folder.iterdir()} == {
        f"{kept}.safetensors",
        f"{orphan}.safetensors",
        new.name,
    }
    ledger.close()
