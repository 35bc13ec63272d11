"""The gate's process: `python -m polyward_client.gate SITE STATE`. Started by `polyward-node run`."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Message

from polyward_client.gate.control import ControlLink
from polyward_client.gate.gate import Gate
from polyward_client.gate.health import answering
from polyward_client.gate.link import FleetLink
from polyward_client.isolation.kernel import close_to_others
from polyward_client.logs import log_handlers
from polyward_client.port.connect import RemoteTrainer
from polyward_client.port.interface import Progress
from polyward_client.site import Site, read_site
from polyward_client.status import write_status
from polyward_shared.pki import read_key
from polyward_shared.problems import Problem
from polyward_shared.supervise import run_child
from polyward_shared.wire import named_work, read_refusal

POLL_SECONDS = 0.05  # just after an order, when the next may come at once
POLL_SECONDS_IDLE = 0.5  # when nothing has come for ten seconds; in between, a twentieth of the time waited

log = logging.getLogger("polyward.gate")


def run_gate(site: Site, stop: threading.Event) -> None:
    """Answers the hub's orders until `stop` is set. Survives the hub, the network and the trainer."""
    if site.file.hub is None:
        raise Problem(str(site.path), "hub: is missing", remedy='add [hub] with address = "host:port"')
    if not site.ca.is_file():
        raise Problem(str(site.ca), "there is no such file", remedy="copy the hub's ca.pem here")
    os.chdir(site.port)  # a Unix socket's path must be short
    link = FleetLink(site.file.hub.address, site.ca.read_bytes(), read_key(site.key))
    trainer, awake = RemoteTrainer(site.socket), threading.Event()
    control: ControlLink | None = None

    def watch(progress: Progress) -> None:
        write_status(site, progress=progress)
        if control is not None:
            control.courses.progress(progress)

    gate = Gate(site, trainer, watch=watch)
    if site.file.hub.control:
        control = ControlLink(site, site.file.hub.control, gate.sent, cancel=trainer.cancel, wake=awake.set)
        control.start()
    orders = Orders(link, gate, control, awake)
    worker = threading.Thread(target=orders.answer_all, args=(stop,), name="orders", daemon=True)
    worker.start()
    with answering(site, lambda: link.state.value) if site.file.limits.health_port else nullcontext():
        while worker.is_alive() and not stop.wait(1.0):
            write_status(site, link=link.state.value, control=control is not None and control.connected)
    if control is not None:
        control.close()
    link.close()  # an order in work goes on in the trainer; its result waits in the spool
    write_status(site, link="stopped", control=False)


@dataclass
class Orders:
    """What comes from the hub, one order after the other."""

    link: FleetLink
    gate: Gate
    control: ControlLink | None
    awake: threading.Event  # set when an order is known to wait

    def answer_all(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        self.link.connect(stop)
        last = time.monotonic()
        while not stop.is_set():
            message = self.link.receive(self._arrives)
            if message is None:
                self._ends()
                self.awake.wait(min(POLL_SECONDS_IDLE, max(POLL_SECONDS, (time.monotonic() - last) / 20)))
                self.awake.clear()
                continue
            began = time.monotonic()
            log.info("%s: order %s", self.gate.site.name, message.metadata.message_type)
            reply = self._answered(message)
            last = time.monotonic()
            self.link.reply(reply, last - began)
            self._ends()

    def _answered(self, message: Message) -> Message:
        """The gate's answer, with those who watch told of it: the hub on the control plane, people by the status."""
        if self.control is not None:
            self.control.courses.begins(*named_work(message))
        reply = self.gate.answer(message)
        code = read_refusal(reply) if reply.has_error() else None
        write_status(self.gate.site, refused=code or "")
        if self.control is not None:
            self.control.courses.sends()
            if code is not None:
                self.control.refused(code)
        return reply

    def _arrives(self) -> None:
        if self.control is not None:
            self.control.courses.arrives()

    def _ends(self) -> None:
        if self.control is not None:
            self.control.courses.ends()


if __name__ == "__main__":
    close_to_others()
    here = read_site(Path(sys.argv[1]), state=Path(sys.argv[2]))
    sys.exit(run_child("gate", lambda stop: run_gate(here, stop), handlers=log_handlers(here, "gate")))
