"""The gate's process: `python -m polyward_client.gate SITE STATE`. Started by `polyward-node run`."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path

from polyward_client.gate.gate import Gate
from polyward_client.gate.link import FleetLink
from polyward_client.port.connect import RemoteTrainer
from polyward_client.site import Site, read_site
from polyward_client.status import write_status
from polyward_shared.pki import read_key
from polyward_shared.problems import Problem
from polyward_shared.supervise import run_child

POLL_SECONDS = 0.05  # just after an order, when the next may come at once
POLL_SECONDS_IDLE = 0.5  # when nothing has come for ten seconds; in between, a twentieth of the time waited

log = logging.getLogger("polyward.gate")


def run_gate(site: Site, stop: threading.Event) -> None:
    """Answers the hub's orders until `stop` is set. Survives the hub, the network and the trainer."""
    if site.file.hub is None:
        raise Problem(str(site.path), "hub: is missing", remedy='add [hub] with address = "host:port"')
    if not site.ca.is_file():
        raise Problem(str(site.ca), "there is no such file", remedy="copy the hub's ca.pem here")
    link = FleetLink(site.file.hub.address, site.ca.read_bytes(), read_key(site.key))
    gate = Gate(site, RemoteTrainer(site.socket), watch=lambda progress: write_status(site, progress=progress))
    worker = threading.Thread(target=_answer_orders, args=(link, gate, site, stop), name="orders", daemon=True)
    worker.start()
    while worker.is_alive() and not stop.wait(1.0):
        write_status(site, link=link.state.value)
    link.close()  # an order in work goes on in the trainer; its result waits in the spool
    write_status(site, link="stopped")


def _answer_orders(link: FleetLink, gate: Gate, site: Site, stop: threading.Event) -> None:
    link.connect(stop)
    last = time.monotonic()
    while not stop.is_set():
        message = link.receive()
        if message is None:
            stop.wait(min(POLL_SECONDS_IDLE, max(POLL_SECONDS, (time.monotonic() - last) / 20)))
            continue
        began = time.monotonic()
        log.info("%s: order %s", site.name, message.metadata.message_type)
        reply = gate.answer(message)
        last = time.monotonic()
        link.reply(reply, last - began)


if __name__ == "__main__":
    here = read_site(Path(sys.argv[1]), state=Path(sys.argv[2]))
    sys.exit(run_child("gate", lambda stop: run_gate(here, stop)))
