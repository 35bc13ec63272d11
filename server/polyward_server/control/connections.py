"""Who is connected, and what is known of each: kept here, and written into the ledger together by the clerk.

Gates speak several times a second when there are many; one transaction for all of them costs the disk the same as one
for each would.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

from polyward_server.contacts import Contact, keep_contacts
from polyward_server.ledger import Ledger
from polyward_server.told import Span, keep_spans
from polyward_shared.protos import control_pb2 as pb

WRITE_SECONDS = 1.0  # between what is kept of a site that only says the same again


class Connection:
    """One gate that is connected: its mail, and what is known of it."""

    def __init__(self, site: str, serial: int) -> None:
        self.site = site
        self.serial = serial
        self.mail: queue.Queue[pb.FromHub | None] = queue.Queue()  # None ends the connection
        self.contact = Contact(site, True, time.time())
        self.heard = time.monotonic()  # when it last spoke, whatever is done to the clock
        self.approved: frozenset[str] | None = None  # studies, as it said; None until it has
        self.kept: frozenset[str] | None = None  # those of them that are in the ledger
        self.written = 0.0


class Connections:
    """All of them, one for each site. For any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._here: dict[str, Connection] = {}
        self._contacts: dict[str, Contact] = {}  # not written yet
        self._spans: dict[tuple[str, int, str], list[Span]] = {}

    def here(self) -> dict[str, Connection]:
        with self._lock:
            return dict(self._here)

    def open(self, connection: Connection) -> None:
        """It takes the place of one that the site has already, which ends."""
        with self._lock:
            before, self._here[connection.site] = self._here.get(connection.site), connection
        if before is not None:
            before.mail.put(None)

    def close(self, connection: Connection) -> bool:
        """The site is gone; False if another connection of it has taken this one's place."""
        known = connection.contact
        with self._lock:
            if self._here.get(connection.site) is not connection:
                return False
            del self._here[connection.site]
            gone = Contact(connection.site, False, known.at, known.progressed, known.software, known.status)
            self._contacts[connection.site] = gone
        return True

    def update(self, connection: Connection, **changes: Any) -> None:
        """Something was heard. What is new is written at the clerk's next look, the same again once a second."""
        before, connection.heard = connection.contact, time.monotonic()
        values = {"software": before.software, "status": before.status, "progressed": before.progressed, **changes}
        connection.contact = Contact(connection.site, True, time.time(), **values)
        same = (before.status, before.software) == (connection.contact.status, connection.contact.software)
        if same and time.monotonic() - connection.written < WRITE_SECONDS:
            return
        connection.written = time.monotonic()
        with self._lock:
            if self._here.get(connection.site) is connection:  # a late word of one that ended wakes no site
                self._contacts[connection.site] = connection.contact

    def timed(self, study: str, number: int, site: str, spans: list[Span]) -> None:
        """How a site's work on a round went, for the clerk's next look."""
        with self._lock:
            self._spans[study, number, site] = spans

    def write(self) -> None:
        """Writes what is new. One thread's work: two could write it in another order."""
        with self._lock:
            contacts, self._contacts = self._contacts, {}
            spans, self._spans = self._spans, {}
        if contacts:
            keep_contacts(self._ledger, *contacts.values())
        if spans:
            keep_spans(self._ledger, spans)
