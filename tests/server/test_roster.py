"""Who may take part, in each kind of database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_server.contacts import Contact, keep_contacts, read_contacts
from polyward_server.database import Where
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster, hashed
from polyward_server.tables import certificates, invitations, sites
from polyward_shared import pki
from polyward_shared.problems import Problem

AUTHORITY_KEY, AUTHORITY = pki.new_authority("test authority")
SOON = time.time() + 3600


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    made = Ledger(where)
    yield made
    made.close()


@pytest.fixture
def roster(ledger: Ledger) -> Roster:
    return Roster(ledger)


def certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return pki.new_node_certificate(name, key.public_key(), timedelta(hours=1), AUTHORITY_KEY, AUTHORITY)


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    return pki.public_key_pem(key.public_key())


def joined(roster: Roster, name: str) -> ec.EllipticCurvePrivateKey:
    key = pki.new_key()
    roster.invite(name, f"token of {name}", SOON, approved=True)
    assert roster.use(f"token of {name}", "request")
    roster.issue(name, certificate(name, key), invitation=hashed(f"token of {name}"))
    return key


def test_names_and_keys_belong_to_one_site(roster: Roster) -> None:
    roster.register("north", "key 1")
    roster.register("north", "key 1")
    with pytest.raises(Problem, match="'north' already has this key"):
        roster.register("south", "key 1")
    with pytest.raises(Problem, match="'north' already has this name"):
        roster.register("north", "key 2")
    assert roster.keys() == {"north": "key 1"}


def test_an_invitation_is_used_by_one_request_and_decided_once(roster: Roster) -> None:
    roster.invite("north", "old", SOON, approved=False)
    roster.invite("north", "token", SOON, approved=False)
    assert roster.asked("old") is None, "the newer one took its place"
    assert [each.token for each in roster.invited()] == [hashed("token")]
    assert roster.use("token", "request")
    assert roster.use("token", "request")
    assert not roster.use("token", "another")
    [asked] = roster.waiting(approved=False)
    assert (asked.site, asked.request, asked.approved) == ("north", "request", False)
    assert roster.decide(asked.token, approve=True)
    assert roster.waiting(approved=False) == []
    assert [each.site for each in roster.waiting(approved=True)] == ["north"]


def test_a_site_that_is_put_out_stays_out(roster: Roster) -> None:
    key = joined(roster, "north")
    assert roster.keys() == {"north": pem(key)}
    issued = roster.newest("north", pem(key))
    assert issued is not None
    assert issued.pem == pki.certificate_to_pem(certificate_of(issued.pem)).decode()
    roster.revoke("north")
    assert (roster.keys(), list(roster.revoked())) == ({}, ["north"])
    assert roster.was_revoked(pem(key))
    assert roster.newest("north") is None
    with pytest.raises(Problem, match="was put out"):
        roster.issue("north", certificate("north", key), holder=pem(key))
    with pytest.raises(Problem, match="is no site of this hub"):
        roster.revoke("south")


def test_a_site_that_is_put_out_while_it_is_given_a_certificate_is_out(ledger: Ledger, roster: Roster) -> None:
    """Whichever is first: the second waits for it, and sees what it did."""
    for turn in range(5):
        name = f"site {turn}"
        roster.invite(name, name, SOON, approved=True)
        roster.use(name, "request")
        key = pki.new_key()
        given = threading.Thread(target=_issue, args=(roster, name, key))
        given.start()
        time.sleep(0.002 * turn)
        roster.revoke(name)
        given.join()
        with ledger.engine.connect() as db:
            good = (certificates.c.site == name) & (certificates.c.revoked == "")
            assert db.execute(sa.select(certificates.c.serial).where(good)).all() == []
            admitted = (sites.c.name == name) & (sites.c.revoked == "")
            assert db.execute(sa.select(sites.c.name).where(admitted)).all() == []
            open_one = (invitations.c.site == name) & (invitations.c.rejected == "")
            assert db.execute(sa.select(invitations.c.token).where(open_one)).all() == []


def test_sites_are_told_in_the_order_of_their_bytes(ledger: Ledger, roster: Roster) -> None:
    names = ["B", "a", "a-b", "a0", "ab"]
    for name in reversed(names):
        roster.register(name, f"key of {name}")
        keep_contacts(ledger, Contact(name, True, 1.5))
    assert list(roster.keys()) == names
    assert list(read_contacts(ledger)) == names


def test_nothing_is_told_of_what_did_not_happen(ledger: Ledger, roster: Roster) -> None:
    joined(roster, "north")
    before = ledger.noted()
    with pytest.raises(Problem):
        roster.revoke("south")
    with pytest.raises(Problem):
        roster.issue("south", certificate("south", pki.new_key()), invitation=hashed("no token"))
    assert ledger.noted() == before
    assert {each.event.site for each in before} == {"north"}


def certificate_of(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def _issue(roster: Roster, name: str, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        roster.issue(name, certificate(name, key), invitation=hashed(name))
    except Problem as problem:
        assert "was put out" in str(problem)  # noqa: PT017  the other one was first
