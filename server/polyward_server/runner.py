"""The process that runs queued studies, one after the other: `python -m polyward_server.runner HUB`.

It holds nothing that the ledger does not: killed at any point, it goes on where the last committed round left off.
When the SuperLink is lost, so is the Flower run; a new one is opened and the round is asked again.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from polyward_server.exchange import Presence
from polyward_server.federation import Federation
from polyward_server.flower.session import RunLost, Session
from polyward_server.flower.superlink import read_secret
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.registry import Registry
from polyward_server.roster import Contact, Roster
from polyward_server.rounds import run_study
from polyward_shared.problems import Problem
from polyward_shared.supervise import run_child

log = logging.getLogger("polyward.runner")

IDLE_SECONDS = 0.3  # between looks at an empty queue
PRESENCE_SECONDS = 0.5  # between looks at Flower's list of nodes
LOST_SECONDS = 0.5  # before a lost SuperLink is tried again


class Sites:
    """Registered sites and Flower's nodes, kept in step: the ledger knows keys, Flower forgets them at a restart."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self._session = session
        self._roster = Roster(ledger)
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
        contacts = self._roster.contacts()
        return {
            name: Presence(state.online, state.last_activated or 0.0, progressed=_progressed(contacts.get(name)))
            for name, (_, node) in self._registered.items()
            if (state := known.get(node)) is not None
        }


def _progressed(contact: Contact | None) -> float | None:
    """When the site's work last came further, if it is there to tell."""
    return contact.progressed if contact is not None and contact.connected else None


def run_queue(hub: Hub, stop: threading.Event) -> None:
    """Runs studies until `stop` is set."""
    ledger, registry = Ledger(hub.ledger), Registry(hub.registry)
    while not stop.is_set():
        try:
            with session_of(hub) as session:
                session.sweep()  # a run that an earlier runner left behind would keep gates waiting for its messages
                sites = Sites(session, ledger)
                while not stop.is_set():
                    sites.presence()
                    waiting = ledger.studies_in("running", "queued")
                    if waiting:
                        _run(waiting[0], session, sites, ledger, registry, stop)
                    stop.wait(IDLE_SECONDS)
        except RunLost as lost:
            log.warning("the way to the sites is lost (%s); trying again", lost)
            stop.wait(LOST_SECONDS)


def _run(
    digest: str, session: Session, sites: Sites, ledger: Ledger, registry: Registry, stop: threading.Event
) -> None:
    study = ledger.study(digest)
    ledger.set_state(digest, "running")
    last = ledger.last_round(digest)
    ledger.note(Event(digest, last.number if last else 0, "", "started", f"{study.id}, {study.rounds} rounds"))

    def stopped() -> bool:
        return stop.is_set() or ledger.study_state(digest)[0] == "stopped"

    try:
        with session.open_run() as run:
            federation = Federation(run.grid, sites.presence, sites.nodes, ledger, registry, stopped)
            finished = run_study(study, federation)
    except Problem as problem:
        ledger.set_state(digest, "failed", str(problem))
        ledger.note(Event(digest, 0, "", "failed", str(problem)))
        return
    if finished:
        ledger.set_state(digest, "finished")
        ledger.note(Event(digest, study.rounds, "", "finished", ""))


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
    sys.exit(run_child("runner", lambda stop: run_queue(here, stop)))
