"""The control plane's process: `python -m polyward_server.control HUB`. Started by `polyward-hub serve`."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from polyward_server.control.service import Service, listen
from polyward_server.enrolment import Authority, sign_approved
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared.supervise import run_child

CLERK_SECONDS = 0.2  # between looks at what the other processes have written

log = logging.getLogger("polyward.control")


def run_control(hub: Hub, stop: threading.Event) -> None:
    """Serves gates, signs approved requests and passes commands on, until `stop` is set."""
    ledger = Ledger(hub.ledger)
    roster, authority = Roster(ledger), Authority(hub)
    roster.all_gone()
    service = Service(hub, ledger, roster, authority)
    server = listen(service, hub)
    try:
        while not stop.wait(CLERK_SECONDS):
            for site in sign_approved(roster, authority):
                log.info("%s has a certificate now", site)
            service.look_around()
    finally:
        server.stop(grace=0.5).wait()
        ledger.close()


if __name__ == "__main__":
    here = Hub(Path(sys.argv[1]))
    sys.exit(run_child("control", lambda stop: run_control(here, stop)))
