"""What the runner knows of sites: keys as the roster has them, Flower's nodes, and progress from the control plane."""

from __future__ import annotations

import time
from pathlib import Path

from polyward_server.contacts import Contact, keep_contacts
from polyward_server.exchange import Patience
from polyward_server.runner import PRESENCE_SECONDS, Sites, session_of
from polyward_shared import pki
from tests.support.real_hub import real_hub


def test_flower_knows_the_sites_that_may_take_part_and_their_progress_counts(tmp_path: Path) -> None:
    with real_hub(tmp_path) as hub, session_of(hub.hub) as session:
        for name in ("north", "south"):
            hub.roster.register(name, pki.public_pem(pki.new_key()).decode())
        sites = Sites(session, hub.ledger)
        assert set(sites.nodes()) == {"north", "south"}
        assert sites.presence()["north"].progressed is None
        now = time.time()
        keep_contacts(hub.ledger, Contact("north", True, now, progressed=now - 2, software="polyward 1"))
        keep_contacts(hub.ledger, Contact("south", False, now, progressed=now - 2, software="polyward 1"))
        time.sleep(PRESENCE_SECONDS)
        here = sites.presence()
        assert here["north"].progressed == now - 2
        assert here["south"].progressed is None, "a site that is not connected tells of no progress"
        patience = Patience(deadline_seconds=1.0, rejoin_seconds=1.0, stall_seconds=60.0)
        assert not patience.is_over(5.0, here["north"]), "its work comes further, so it is waited for"
        assert patience.is_over(5.0, here["south"])
        hub.roster.revoke("south")
        time.sleep(PRESENCE_SECONDS)
        assert set(sites.presence()) == set(sites.nodes()) == {"north"}
        assert len(session.nodes()) == 1
