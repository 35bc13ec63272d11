"""What is decided on sites is written down with who decided it, in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polyward_server import admission
from polyward_server.database import Where
from polyward_server.hub import Hub, init
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared import pki
from polyward_shared.invitation import Invitation
from polyward_shared.problems import Problem


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return init(tmp_path / "hub", name="north", host="127.0.0.1", port=9443)


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    made = Ledger(where)
    yield made
    made.close()


def invited(hub: Hub, roster: Roster, site: str) -> Invitation:
    return admission.invite(hub, roster, site, hours=1, approved=False, actor="ada")


def told(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(each.event.what, each.event.site, each.event.actor) for each in ledger.noted()]


def test_from_invitation_to_revocation(hub: Hub, ledger: Ledger) -> None:
    roster, key = Roster(ledger), pki.new_key()
    invitation = invited(hub, roster, "bergen")
    request = pki.new_request("bergen", key).decode()
    assert roster.use(invitation.token, request)
    assert roster.use(invitation.token, request)  # asked again, as a node does while it waits
    assert not roster.use(invitation.token, pki.new_request("bergen", pki.new_key()).decode())
    fingerprint = pki.fingerprint(pki.public_key_pem(key.public_key()))
    admission.approve(roster, "bergen", fingerprint, actor="ada")
    admission.revoke(roster, "bergen", actor="grace")
    assert told(ledger) == [
        ("invited", "bergen", "ada"),
        ("asks", "bergen", ""),
        ("admitted", "bergen", "ada"),
        ("revoked", "bergen", "grace"),
    ]


@pytest.mark.parametrize("slip", ["", "0", "0" * 32, "z" * 32])
def test_another_fingerprint_decides_nothing(hub: Hub, ledger: Ledger, slip: str) -> None:
    roster = Roster(ledger)
    roster.use(invited(hub, roster, "bergen").token, pki.new_request("bergen", pki.new_key()).decode())
    with pytest.raises(Problem, match="do not approve"):
        admission.approve(roster, "bergen", slip, actor="ada")
    assert [asked.site for asked in roster.waiting(approved=False)] == ["bergen"]
    assert told(ledger)[-1][0] == "asks"


def test_an_invitation_that_was_used_cannot_be_withdrawn(hub: Hub, ledger: Ledger) -> None:
    roster = Roster(ledger)
    invitation = invited(hub, roster, "bergen")
    [open_one] = roster.invited()
    roster.use(invitation.token, pki.new_request("bergen", pki.new_key()).decode())
    with pytest.raises(Problem, match="was used, withdrawn or replaced"):
        admission.withdraw(roster, open_one.token, actor="ada")
    assert roster.waiting(approved=False)


def test_who_is_unknown_cannot_be_put_out(ledger: Ledger) -> None:
    with pytest.raises(Problem, match="is no site of this hub"):
        admission.revoke(Roster(ledger), "nobody", actor="ada")
    assert told(ledger) == []


@pytest.mark.parametrize(("name", "hours"), [("a/b", 1.0), ("", 1.0), ("x" * 64, 1.0), ("a", 0.0), ("a", 1e6)])
def test_terms_that_no_invitation_has(hub: Hub, ledger: Ledger, name: str, hours: float) -> None:
    with pytest.raises(Problem):
        admission.invite(hub, Roster(ledger), name, hours=hours, approved=False, actor="ada")
    assert told(ledger) == []
