"""Sites as the page shows them: certificates that were not renewed, software that differs, states."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from polyward_server.contacts import Contact, keep_contacts
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_server.views.sites import SiteRow, read_sites
from polyward_shared import pki

OURS = f"polyward {version('polyward')}"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db")
    yield made
    made.close()


def seen(ledger: Ledger) -> dict[str, SiteRow]:
    return {row.site: row for row in read_sites(ledger).rows}


def test_a_certificate_that_ends_soon_has_missed_its_renewal(ledger: Ledger) -> None:
    roster = Roster(ledger)
    authority_key, authority = pki.new_authority("north")
    for site, days in (("good", 10), ("soon", 2), ("over", -1)):
        key = pki.new_key()
        lasts = timedelta(days=days) if days > 0 else timedelta(seconds=1)
        certificate = pki.new_node_certificate(site, key.public_key(), lasts, authority_key, authority)
        roster.issue(site, certificate)
    with ledger.engine.begin() as db:
        db.exec_driver_sql("UPDATE certificates SET expires = 1 WHERE site = 'over'")
    rows = seen(ledger)
    assert {site: row.certificate_soon for site, row in rows.items()} == {"good": False, "soon": True, "over": True}
    assert rows["over"].state == "expired"
    assert rows["good"].certificate_days == pytest.approx(10, abs=0.01)


def test_other_software_is_marked(ledger: Ledger) -> None:
    roster = Roster(ledger)
    told = {
        "a": f"{OURS}, python 3.11.2",
        "b": f"{OURS}, python 3.11.2",
        "c": f"{OURS}, python 3.12.0",
        "d": "polyward 0.0.1",
    }
    for site, software in told.items():
        roster.register(site, pki.public_key_pem(pki.new_key().public_key()))
        keep_contacts(ledger, Contact(site, True, time.time(), None, software, {"state": "idle"}))
    assert {site: row.differs for site, row in seen(ledger).items()} == {"a": "", "b": "", "c": "sites", "d": "hub"}


def test_states(ledger: Ledger) -> None:
    roster = Roster(ledger)
    for site in ("away", "here", "working", "revoked", "unknown"):
        roster.register(site, pki.public_key_pem(pki.new_key().public_key()))
    keep_contacts(ledger, Contact("here", True, time.time()))
    keep_contacts(ledger, Contact("unknown", True, time.time(), None, "", {"state": "of a later version"}))
    work = {"study": "f" * 64, "round": 3, "phase": "training", "done": 1, "of": 2}
    keep_contacts(ledger, Contact("working", True, time.time(), None, "", {"state": "working", "work": work}))
    keep_contacts(ledger, Contact("revoked", True, time.time(), None, "", {"state": "idle", "work": work}))
    roster.revoke("revoked", actor="ada")
    rows = seen(ledger)
    assert {site: row.state for site, row in rows.items()} == {site: site for site in rows}
    assert list(rows)[-1] == "revoked"
    assert (rows["working"].round, rows["working"].phase, rows["working"].study) == (3, "training", "")
    assert (rows["revoked"].here, rows["revoked"].phase) == (False, "")
