"""Inviting, approving, turning down and putting out sites from a browser."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_server.roster import Roster
from polyward_server.tables import invitations, tables
from polyward_shared import pki
from polyward_shared.invitation import read_invitation
from tests.support.dashboard import Served


def asking(dashboard: Served, site: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """A site that has used its invitation; the fingerprint of its key."""
    roster, key = Roster(dashboard.ledger), key or pki.new_key()
    roster.invite(site, f"token of {site}", 4e9, approved=False)
    assert roster.use(f"token of {site}", pki.new_request(site, key).decode())
    return pki.fingerprint(pki.public_key_pem(key.public_key()))


def told(dashboard: Served) -> list[tuple[str, str, str]]:
    """Kind, site and person of every event of no study."""
    return [(each.event.what, each.event.site, each.event.actor) for each in dashboard.ledger.noted(study="")]


def test_an_invitation_is_shown_once_and_kept_nowhere(dashboard: Served) -> None:
    with dashboard.browser("coordinator", "ada") as page:
        answer = page.post("/sites/invite", json={"site": "oslo", "hours": "24"})  # as a form's script sends it
    assert answer.status_code == 200
    invitation = read_invitation(answer.json()["invitation"])
    assert invitation.site == "oslo"
    assert ("invited", "oslo", "ada") in told(dashboard)
    with dashboard.ledger.engine.connect() as db:
        everything = json.dumps([str(row) for table in tables.tables.values() for row in db.execute(sa.select(table))])
    assert invitation.token not in everything
    with dashboard.browser("viewer") as page:
        assert invitation.token not in page.get("/sites").text
        [row] = [row for row in page.get("/api/invitations").json()["rows"] if row["site"] == "oslo"]
    assert (row["approved"], row["over"]) == (False, False)


def test_an_invitation_is_withdrawn_once(dashboard: Served) -> None:
    with dashboard.browser("coordinator", "ada") as page:
        page.post("/sites/invite", json={"site": "wroclaw"})
        [row] = [row for row in page.get("/api/invitations").json()["rows"] if row["site"] == "wroclaw"]
        assert page.post("/sites/withdraw", json={"id": row["id"]}).status_code == 200
        again = page.post("/sites/withdraw", json={"id": row["id"]})
        assert again.status_code == 409
        assert "was used, withdrawn or replaced" in again.json()["detail"]
        assert "wroclaw" not in {row["site"] for row in page.get("/api/invitations").json()["rows"]}
    assert told(dashboard).count(("rejected", "wroclaw", "ada")) == 1


def test_only_the_fingerprint_that_was_read_out_lets_a_site_in(dashboard: Served) -> None:
    fingerprint = asking(dashboard, "tromso")
    with dashboard.browser("coordinator", "ada") as page:
        assert fingerprint in [row["fingerprint"] for row in page.get("/api/requests").json()["rows"]]
        wrong = page.post("/sites/approve", json={"site": "tromso", "fingerprint": fingerprint[:-1] + "x"})
        assert wrong.status_code == 409
        assert "do not approve" in wrong.json()["detail"]
        part = page.post("/sites/approve", json={"site": "tromso", "fingerprint": fingerprint[:9]})
        assert part.status_code == 409
        assert ("admitted", "tromso", "ada") not in told(dashboard)
        right = page.post(
            "/sites/approve", json={"site": "tromso", "fingerprint": fingerprint.upper().replace(" ", "  ")}
        )
        assert right.status_code == 200
        assert "tromso" not in {row["site"] for row in page.get("/api/requests").json()["rows"]}
    assert ("admitted", "tromso", "ada") in told(dashboard)


def test_a_request_is_turned_down(dashboard: Served) -> None:
    asking(dashboard, "stranger")
    with dashboard.browser("coordinator", "ada") as page:
        assert page.post("/sites/reject", json={"site": "stranger"}).status_code == 200
        assert page.post("/sites/reject", json={"site": "stranger"}).status_code == 409
    assert ("rejected", "stranger", "ada") in told(dashboard)


def test_a_site_is_put_out_by_typing_its_name(dashboard: Served) -> None:
    with dashboard.browser("coordinator", "ada") as page:
        assert page.post("/sites/revoke", json={"site": "leiden", "typed": "leidn"}).status_code == 409
        assert "leiden" not in Roster(dashboard.ledger).revoked()
        assert page.post("/sites/revoke", json={"site": "leiden", "typed": "leiden"}).status_code == 200
        [row] = [row for row in page.get("/api/sites").json()["rows"] if row["site"] == "leiden"]
    assert row["state"] == "revoked"
    assert "leiden" in Roster(dashboard.ledger).revoked()
    assert ("revoked", "leiden", "ada") in told(dashboard)


ACTIONS: dict[str, dict[str, Any]] = {
    "/sites/invite": {"site": "bad", "hours": 1},
    "/sites/approve": {"site": "porto", "fingerprint": "0"},
    "/sites/reject": {"site": "porto"},
    "/sites/revoke": {"site": "porto", "typed": "porto"},
    "/sites/withdraw": {"id": "0" * 64},
}


@pytest.mark.parametrize("path", ACTIONS)
def test_a_viewer_may_look_and_not_touch(dashboard: Served, path: str) -> None:
    before = len(told(dashboard))
    with dashboard.browser("viewer") as page:
        assert page.get("/sites").status_code == 200
        assert page.post(path, json=ACTIONS[path]).status_code == 403
    assert len(told(dashboard)) == before


@pytest.mark.parametrize("value", ["", "x" * 100, "a\x00b", "a\nb", "../a", "<b>", 7, None, ["porto"], {"a": 1}])
@pytest.mark.parametrize("path", ACTIONS)
def test_what_is_no_name_changes_nothing(dashboard: Served, path: str, value: object) -> None:
    before = len(told(dashboard))
    field = "id" if path.endswith("withdraw") else "site"
    with dashboard.browser("coordinator") as page:
        answer = page.post(path, json={**ACTIONS[path], field: value})
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert len(told(dashboard)) == before


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b'{"site": "porto", "more": 1}', b'{"site": "porto"}' * 2])
def test_what_is_no_form_changes_nothing(dashboard: Served, body: bytes) -> None:
    before = len(told(dashboard))
    with dashboard.browser("coordinator") as page:
        answer = page.post("/sites/reject", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert len(told(dashboard)) == before


@pytest.mark.parametrize("hours", [0, -1, 1e9, "soon", "nan", []])
def test_an_invitation_lasts_for_hours_and_not_for_ever(dashboard: Served, hours: object) -> None:
    with dashboard.browser("coordinator") as page:
        assert page.post("/sites/invite", json={"site": "bad", "hours": hours}).status_code == 422
    with dashboard.ledger.engine.connect() as db:
        assert db.execute(sa.select(invitations).where(invitations.c.site == "bad")).first() is None


def test_what_a_site_says_of_itself_is_text(dashboard: Served) -> None:
    with dashboard.ledger.engine.begin() as db:
        db.execute(sa.text("UPDATE contacts SET software = '<script>alert(1)</script>' WHERE site = 'uppsala'"))
    with dashboard.browser("viewer") as page:
        shown: httpx.Response = page.get("/sites")
    assert "<script>alert" not in shown.text
    assert "&lt;script&gt;alert(1)" in shown.text
