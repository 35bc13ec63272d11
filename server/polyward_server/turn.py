"""A study's turn at the runner: until it ends, is paused, gives way to another, or meets a fault.

What befalls a study here decides its state: a person's mistake fails it, so does the same defect of ours time and
again; a full disk and an absent database are waited for.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from polyward_server.course import AT_ONCE
from polyward_server.federation import Federation
from polyward_server.flower.session import RunLost
from polyward_server.lease import Lease, LeaseLost
from polyward_server.ledger import Ledger
from polyward_server.records import Event, State
from polyward_server.rounds import run_study
from polyward_shared.problems import Problem

log = logging.getLogger("polyward.runner")

GIVE_WAY_SECONDS = 60.0  # that a study may wait while others stand in line
DEFECTS = 3  # of ours between two rounds; then the study has failed and the next one has its turn
GOING = (State.RUNNING, State.RESUMING, State.WAITING)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError)  # no connection, or no room; all others are defects
FULL = "the disk is full"


class Turn:
    """`others` says whether another study could be run meanwhile."""

    def __init__(
        self, study: str, ledger: Ledger, lease: Lease, stop: threading.Event, others: Callable[[], bool]
    ) -> None:
        self._study, self._ledger, self._lease, self._stop, self._others = study, ledger, lease, stop, others
        self._waits_since: float | None = None

    def stopped(self) -> bool:
        """Whether to end after the round under way."""
        state, _ = self._ledger.study_state(self._study)
        return state not in GOING or self._ends(state)

    def leaves(self) -> bool:
        """Whether to leave that round too."""
        state, reason = self._ledger.study_state(self._study)
        return (state not in GOING and reason == AT_ONCE) or self._ends(state)

    def _ends(self, state: str) -> bool:
        if state != State.WAITING:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = time.monotonic()
        elif time.monotonic() - self._waits_since > GIVE_WAY_SECONDS and self._others():
            return True
        return self._stop.is_set() or self._lease.lost.is_set()


def run_turn(federation: Federation, study: str) -> None:
    """Runs the study as far as it comes. Raises `RunLost` when the way to the sites is lost, one of `AWAY` for the
    database and `OSError` for a full disk, after which it may be called again."""
    ledger = federation.ledger
    try:
        if run_study(ledger.study(study), federation):
            ledger.set_state(study, State.FINISHED, only_from=GOING)
    except (RunLost, *AWAY):
        raise
    except LeaseLost:
        log.warning("study %s is run by another hub now", study[:12])
    except Problem as problem:
        ledger.set_state(study, State.FAILED, str(problem), only_from=(*GOING, State.QUEUED))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        log.exception("study %s met a defect", study[:12])
        _count(ledger, study, error)


def _count(ledger: Ledger, study: str, error: Exception) -> None:
    """Notes the defect by its kind alone, since its text may be a site's; too many since the last round end the study.

    They are counted in the ledger, for this process may have been started again between two of them.
    """
    last = ledger.last_round(study)
    ledger.note(Event(study, last.number if last else 0, "", "defect", type(error).__name__))
    met = 0
    for noted in ledger.noted(study=study):
        if noted.event.what in {"committed", State.QUEUED} or (
            noted.event.what == State.RESUMING and noted.event.actor
        ):
            met = 0
        elif noted.event.what == "defect":
            met += 1
    if met >= DEFECTS:
        why = f"{type(error).__name__} in polyward itself, {met} times; the hub's log tells where"
        ledger.set_state(study, State.FAILED, why, only_from=(*GOING, State.QUEUED))
