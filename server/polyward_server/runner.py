"""The process that runs queued studies, one after the other: `python -m polyward_server.runner HUB`.

It holds nothing that the ledger does not: killed at any point, it goes on where the last committed round left off.
When the SuperLink is lost, so is the Flower run; a new one is opened and the round is asked again.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from polyward_server.contacts import Contact, read_contacts
from polyward_server.exchange import Presence
from polyward_server.federation import Federation
from polyward_server.flower.session import RunLost, Session
from polyward_server.flower.superlink import read_secret
from polyward_server.hub import Hub
from polyward_server.lease import Lease, holder_of
from polyward_server.ledger import Ledger
from polyward_server.reconciliation import reconcile
from polyward_server.records import State
from polyward_server.registry import Registry
from polyward_server.roster import Roster
from polyward_server.turn import AWAY, FULL, NO_ROOM, Turn, run_turn
from polyward_shared.supervise import came_round, run_child

log = logging.getLogger("polyward.runner")

IDLE_SECONDS = 0.3  # between looks at an empty queue
PRESENCE_SECONDS = 0.5  # between looks at Flower's list of nodes
LOST_SECONDS = 0.5  # before a lost SuperLink is tried again
AWAY_SECONDS = 2.0  # before an absent database is tried again, and between looks at a full disk
FULL_SECONDS = 10.0  # before a disk on which nothing was freed is tried again
MOMENT_SECONDS = 120.0  # the longest between two looks at the line


class Sites:
    """Registered sites and Flower's nodes, kept in step: the ledger knows keys, Flower forgets them at a restart."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self._session = session
        self._ledger, self._roster = ledger, Roster(ledger)
        self._registered: dict[str, tuple[str, int]] = {}  # the key that Flower knows, and its node
        self._seen: tuple[float, Mapping[str, Presence]] = (-PRESENCE_SECONDS, {})

    def nodes(self) -> dict[str, int]:
        """Node id of every site that may take part, as `presence` last saw them: the two always go together."""
        if not self._registered:
            self.presence()
        return {name: node for name, (_, node) in self._registered.items()}

    def presence(self) -> Mapping[str, Presence]:
        """Who is here, at most half a second ago.

        A SuperLink that was started anew knows nobody: the keys are told to it again.
        """
        now = time.monotonic()
        if now - self._seen[0] >= PRESENCE_SECONDS:
            self._seen = (now, self._look())
        return self._seen[1]

    def _tell_flower(self) -> None:
        """Flower is told of new keys, and of those that are good no more."""
        keys = self._roster.keys()
        for name, (key, node) in list(self._registered.items()):
            if keys.get(name) != key:
                self._session.unregister(node)
                del self._registered[name]
        for name, key in keys.items():
            if name not in self._registered:
                self._registered[name] = (key, self._session.register(key.encode(), name))

    def _look(self) -> Mapping[str, Presence]:
        known = self._session.nodes()
        self._registered = {name: (key, node) for name, (key, node) in self._registered.items() if node in known}
        self._tell_flower()
        contacts = read_contacts(self._ledger)
        return {
            name: Presence(state.online, state.last_activated or 0.0, progressed=_progressed(contacts.get(name)))
            for name, (_, node) in self._registered.items()
            if (state := known.get(node)) is not None
        }


def _progressed(contact: Contact | None) -> float | None:
    """When the site's work last came further, if it is there to tell."""
    return contact.progressed if contact is not None and contact.connected else None


class Runner:
    """Takes studies from the line, one after the other."""

    def __init__(self, hub: Hub, stop: threading.Event) -> None:
        self._hub, self._stop = hub, stop
        self._ledger, self._registry = Ledger(hub.ledger), Registry(hub.registry)
        self._holder = holder_of(hub.folder)
        self._gave_way: dict[str, float] = {}  # study -> when it last had a turn that did not end it
        self._told = ""  # of what is lost

    def run(self) -> None:
        """Until told to stop, whatever is lost meanwhile."""
        while not self._stop.is_set():
            came_round(MOMENT_SECONDS)
            try:
                with session_of(self._hub) as session:
                    session.sweep()  # a run that an earlier runner left behind would keep gates waiting
                    reconcile(self._ledger, self._registry, self._holder)
                    self._serve(session, Sites(session, self._ledger))
            except RunLost as lost:
                self._tell(f"the way to the sites is lost ({lost})")
                self._stop.wait(LOST_SECONDS)
            except AWAY as error:
                self._tell(f"the database does not answer as it should ({error.orig})")
                self._stop.wait(AWAY_SECONDS)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._tell(str(error.strerror))
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        """Until there is more of it than now, or for a while: each try writes to the record that it was made."""
        free, until = shutil.disk_usage(self._registry.folder).free, time.monotonic() + FULL_SECONDS
        while time.monotonic() < until and shutil.disk_usage(self._registry.folder).free <= free:
            came_round(MOMENT_SECONDS)
            if self._stop.wait(AWAY_SECONDS):
                return

    def _tell(self, what: str) -> None:
        """Once: what is lost may be so for long."""
        if what != self._told:
            log.warning("%s; trying again", what)
        self._told = what

    def _serve(self, session: Session, sites: Sites) -> None:
        while not self._stop.is_set():
            came_round(MOMENT_SECONDS)
            sites.presence()
            for study in self._line():
                lease = Lease(self._ledger.engine, study, self._holder)
                if lease.take():
                    with lease:
                        self._turn(study, session, sites, lease)
                    break
            self._stop.wait(IDLE_SECONDS)

    def _line(self) -> list[str]:
        """Whose turn it is: those that gave way stand behind all others."""
        return sorted(self._ledger.in_line(), key=lambda study: self._gave_way.get(study, 0.0))

    def _turn(self, study: str, session: Session, sites: Sites, lease: Lease) -> None:
        turn = Turn(study, self._ledger, lease, self._stop, lambda: len(self._ledger.in_line()) > 1)
        with session.open_run() as run:
            federation = Federation(
                run.grid,
                sites.presence,
                sites.nodes,
                self._ledger,
                self._registry,
                turn.stopped,
                turn.leaves,
                lease.fence,
                came_round,
            )
            try:
                run_turn(federation, study)
            except OSError:  # for want of room; whether the ledger has any is seen at once
                federation.waits(study, FULL)
                raise
        self._told = ""
        if self._ledger.study_state(study)[0] == State.WAITING:
            self._gave_way[study] = time.monotonic()
        else:
            self._gave_way.pop(study, None)


def session_of(hub: Hub, *, patience: float = 5.0) -> Session:
    """The hub's own way to its SuperLink; a call that fails is tried again for `patience` seconds."""
    return Session(
        hub.private_address,
        hub.ca.read_bytes(),
        private_secret=read_secret(hub.private_secret),
        superexec_secret=read_secret(hub.superexec_secret),
        patience=patience,
    )


if __name__ == "__main__":
    here = Hub(Path(sys.argv[1]))
    sys.exit(run_child("runner", lambda stop: Runner(here, stop).run()))
