"""What a hub puts straight when its runner starts: the ledger says what is true, everything else follows it.

Drafts and paused studies stay as they are. Studies that were being run are taken up again where this hub may run them.
What an interrupted round left on the disk goes; states in the registry that no round names are reported and stay.
"""

from __future__ import annotations

import logging
import shutil
import time

from polyward_server.lease import Lease
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_server.registry import Registry
from polyward_server.retention import named_states

log = logging.getLogger("polyward.runner")

DRAFT_SECONDS = 600.0  # no write of a state takes longer


def reconcile(ledger: Ledger, registry: Registry, holder: str) -> None:
    """Called once before anything is run."""
    for folder in registry.folder.glob(".round-*"):
        shutil.rmtree(folder, ignore_errors=True)
    for draft in registry.folder.glob(".*.safetensors.*"):  # of a write that a kill interrupted, or of one under way
        if time.time() - draft.stat().st_mtime > DRAFT_SECONDS:
            draft.unlink(missing_ok=True)
    for study in ledger.studies_in(State.RUNNING, State.WAITING):
        if Lease(ledger.engine, study, holder).take():
            ledger.set_state(study, State.RESUMING, only_from=(State.RUNNING, State.WAITING))
    unnamed = unnamed_states(ledger, registry)
    if unnamed:
        log.info("%d states in the registry belong to no committed round, such as %s", len(unnamed), unnamed[0])


def unnamed_states(ledger: Ledger, registry: Registry) -> list[str]:
    """Digests in the registry that no round names, as state or as memory, nor anything else; sorted."""
    named = named_states(ledger)
    for study in ledger.studies_in(*State):
        for committed in ledger.rounds(study):
            named |= {committed.state, committed.memory}
    return sorted(registry.digests() - named)
