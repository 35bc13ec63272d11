"""The control plane's process: `python -m polyward_server.control HUB`. Started by `polyward-hub serve`."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from polyward_server.contacts import nobody_is_here
from polyward_server.control.listening import listen
from polyward_server.control.service import Service
from polyward_server.enrolment import Authority, sign_approved
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared.supervise import came_round, run_child

CLERK_SECONDS = 0.2  # between looks at what the other processes have written
MOMENT_SECONDS = 120.0  # the longest that one look may take, with a database that is slow

log = logging.getLogger("polyward.control")


def run_control(hub: Hub, stop: threading.Event) -> None:
    """Serves gates, signs approved requests and passes commands on, until `stop` is set."""
    ledger = Ledger(hub.ledger)
    roster, authority = Roster(ledger), Authority(hub)
    nobody_is_here(ledger)
    service = Service(hub, ledger, roster, authority)
    server = listen(service, hub)
    try:
        while not stop.wait(CLERK_SECONDS):
            came_round(MOMENT_SECONDS)
            for site in sign_approved(roster, authority):
                log.info("%s has a certificate now", site)
            service.look_around()
    finally:
        server.stop(grace=0.5).wait()
        service.look_around()  # so that nobody is said to be here
        ledger.close()


if __name__ == "__main__":
    here = Hub(Path(sys.argv[1]))
    sys.exit(run_child("control", lambda stop: run_control(here, stop)))
