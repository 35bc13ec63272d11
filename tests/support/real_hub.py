"""A real hub on loopback for tests: `polyward-hub serve` as a process, its roster at hand, and gates' links to it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from polyward_client.enrolment import enrol, prepare
from polyward_client.gate.control import ControlLink
from polyward_client.site import Site
from polyward_server.contacts import read_contacts
from polyward_server.enrolment import invite
from polyward_server.hub import free_port, init
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared.chain import Chain
from polyward_shared.invitation import Invitation
from polyward_shared.supervise import end_all, module

PATIENCE_SECONDS = 60.0


class RealHub:
    """Made in `folder` and running."""

    def __init__(self, folder: Path, *, certificate_days: float = 14.0) -> None:
        self.hub = init(
            folder / "hub",
            name="test",
            host="127.0.0.1",
            port=free_port(),
            control_port=free_port(),
            dashboard_port=free_port(),
            certificate_days=certificate_days,
            also=["hub.test"],
        )
        self.folder = folder
        self.ledger = Ledger(self.hub.ledger)
        self.roster = Roster(self.ledger)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until strangers and gates are answered."""
        log = (self.folder / "hub.log").open("ab")
        with log:
            command = module("polyward_server", "serve", str(self.hub.folder))
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for port in (self.hub.file.port, self.hub.file.control_port):
            until(lambda port=port: _answers(port))  # type: ignore[misc]

    def stop(self) -> None:
        end_all([self.process])
        self.process = None

    def invite(self, site: str, *, approved: bool = True, hours: float = 1.0) -> Invitation:
        return invite(self.hub, self.roster, site, hours=hours, approved=approved)

    def enrolled(self, name: str, folder: Path) -> Site:
        """A site that has joined by an invitation that was approved beforehand."""
        invitation = self.invite(name)
        site = prepare(invitation, folder / name)
        enrol(invitation, site, lambda _: None, patience=PATIENCE_SECONDS)
        return site

    @contextmanager
    def linked(
        self, site: Site, *, cancel: Callable[[], None] = lambda: None, wake: Callable[[], None] = lambda: None
    ) -> Iterator[ControlLink]:
        """The site's connection to the control plane, once it stands."""
        assert site.file.hub is not None
        assert site.file.hub.control is not None
        link = ControlLink(site, site.file.hub.control, Chain(site.sent), cancel=cancel, wake=wake)
        link.start()
        try:
            until(lambda: self.is_here(site.name))
            yield link
        finally:
            link.close()

    def is_here(self, name: str) -> bool:
        contact = read_contacts(self.ledger).get(name)
        return contact is not None and contact.connected


@contextmanager
def real_hub(folder: Path, *, certificate_days: float = 14.0) -> Iterator[RealHub]:
    """A hub that runs, and is ended."""
    hub = RealHub(folder, certificate_days=certificate_days)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()
        hub.ledger.close()


def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Returns once this is true. Fails when time is up."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def _answers(port: int) -> bool:

    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
