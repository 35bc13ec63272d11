"""A hub's dashboard as its process runs it: real TLS on a loopback port, in a thread; and browsers without a screen."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from polyward_server.dashboard.__main__ import run_dashboard
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.people import sessions
from tests.support.signed_in import COOKIE, signed_in

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """A running dashboard. `ledger` is another opening of its hub's."""

    hub: Hub
    ledger: Ledger

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.hub.file.dashboard_port}"

    def browser(self, role: str = "", name: str = "") -> httpx.Client:
        """A client that sends what a page's script sends; of nobody, or of a signed-in person with this role."""
        client = httpx.Client(
            base_url=self.url, verify=ssl.create_default_context(cafile=self.hub.ca), headers={"origin": self.url}
        )
        if role:
            cookies = signed_in(self.ledger, role, name)
            found = sessions.find(self.ledger.engine, cookies[COOKIE], time.time())
            assert found is not None
            client.cookies.update(cookies)
            client.headers["x-token"] = found.token
        return client


@contextmanager
def served(hub: Hub) -> Iterator[Served]:
    """Runs the hub's dashboard for as long as the block lasts."""
    stop, ledger = threading.Event(), Ledger(hub.ledger)
    running = Served(hub, ledger)
    thread = threading.Thread(target=run_dashboard, args=(hub, stop))
    thread.start()
    try:
        _wait(running, thread)
        yield running
    finally:
        stop.set()
        thread.join()
        ledger.close()


def _wait(running: Served, thread: threading.Thread) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with running.browser() as client:
        while thread.is_alive() and time.monotonic() < deadline:
            try:
                client.get("/healthz")
            except httpx.TransportError:
                time.sleep(0.02)
            else:
                return
    raise RuntimeError("the dashboard did not start")
