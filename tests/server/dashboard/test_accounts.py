"""People on the dashboard: what an admin does, and what everybody does to their own account."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from polyward_server.people import sessions, users
from polyward_server.tables import events, failures
from tests.support.dashboard import Served

HTML = {"accept": "text/html"}


@pytest.fixture
def admin(dashboard: Served) -> Iterator[httpx.Client]:
    with dashboard.ledger.engine.begin() as db:
        db.execute(failures.delete())
    with dashboard.browser("admin", "ada") as client:
        yield client


def _row(admin: httpx.Client, name: str) -> dict[str, object] | None:
    return next((row for row in admin.get("/api/people").json()["rows"] if row["name"] == name), None)


def _first_password(answer: httpx.Response) -> str:
    found = re.search(r"password (?:is )?([a-z0-9]{5}(?:-[a-z0-9]{5}){3}) ", answer.json()["said"])
    assert found is not None
    return found[1]


def test_somebody_is_added_signs_in_and_chooses_a_password(dashboard: Served, admin: httpx.Client) -> None:
    first = _first_password(admin.post("/people/add", json={"name": "grace", "role": "coordinator"}))
    with dashboard.browser() as client:
        entry = {"name": "grace", "password": first}
        assert client.post("/sign-in", json=entry).status_code == 200
        page = client.get("/account", headers=HTML).text
        client.headers["x-token"] = page.partition('name="token" content="')[2].partition('"')[0]
        own = {"present": first, "new": "a better password", "again": "a better password"}
        assert client.post("/account/password", json={**own, "again": "another one"}).status_code == 422
        assert client.post("/account/password", json={**own, "present": "wrong wrong wrong"}).status_code == 403
        assert client.post("/account/password", json={**own, "new": "short", "again": "short"}).status_code == 422
        assert client.post("/account/password", json=own).status_code == 200
        assert client.get("/account", headers=HTML).status_code == 200  # with the session that came with the answer
        assert client.post("/sign-in", json=entry).status_code == 403
        assert client.post("/sign-in", json={**entry, "password": "a better password"}).status_code == 200
    with dashboard.ledger.engine.connect() as db:
        told = db.execute(sa.select(events.c.what, events.c.detail, events.c.actor)).all()
    assert ("person-added", "grace: coordinator", "ada") in [tuple(row) for row in told]
    assert ("person-password", "grace", "grace") in [tuple(row) for row in told]
    assert first not in str(told)


def test_role_password_and_state_are_changed_and_end_all_sessions(dashboard: Served, admin: httpx.Client) -> None:
    admin.post("/people/add", json={"name": "linus", "role": "viewer"})
    steps = [("role", {"role": "coordinator"}), ("password", {}), ("disable", {}), ("enable", {}), ("sign-out", {})]
    for what, body in steps:
        with dashboard.ledger.engine.begin() as db:
            sessions.begin(db, "linus", time.time())
        assert admin.post(f"/people/linus/{what}", json=body).status_code == 200
        row = _row(admin, "linus")
        assert row is not None
        assert row["sessions"] == 0, what
        assert bool(row["disabled"]) == (what == "disable")
        assert row["role"] == "coordinator"


@pytest.mark.parametrize("what", ["role", "password", "disable", "enable", "sign-out"])
def test_nobody_changes_their_own_rights(admin: httpx.Client, what: str) -> None:
    answer = admin.post(f"/people/ada/{what}", json={"role": "viewer"})
    assert answer.status_code == 409
    assert "this is you" in answer.json()["detail"]
    assert _row(admin, "ada") is not None


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Ada", "role": "viewer"},
        {"name": "<b>", "role": "viewer"},
        {"name": "ada", "role": "viewer"},
        {"name": "bob", "role": "root"},
        {"name": "bob", "role": "viewer", "password": "chosen by the admin"},
        {"name": ["bob"], "role": "viewer"},
        {"name": "bob\0", "role": "viewer"},
        {},
    ],
)
def test_a_wrong_person_is_refused_in_words(admin: httpx.Client, body: dict[str, object]) -> None:
    before = admin.get("/api/people").json()
    answer = admin.post("/people/add", json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert admin.get("/api/people").json() == before


def test_nobody_is_changed_who_is_not_there(admin: httpx.Client) -> None:
    for name in ("nobody", "%2e%2e", "a%0ab", "%F0%9F%98%80", "x" * 200):
        answer = admin.post(f"/people/{name}/disable", json={})
        assert answer.status_code in {404, 422}, name
        assert "nobody of this name" in answer.text or answer.status_code == 404


def test_signing_out_everywhere_ends_all_sessions(dashboard: Served, admin: httpx.Client) -> None:
    with dashboard.browser("admin", "ada") as other:
        assert admin.post("/account/sign-out", json={}).json() == {"go": "/sign-in"}
        assert admin.get("/api/studies").status_code == 401
        assert other.get("/api/studies").status_code == 401


def test_the_page_shows_everybody_and_who_is_there(dashboard: Served, admin: httpx.Client) -> None:
    with dashboard.ledger.engine.begin() as db:
        users.admit(db, "vera", "viewer", "subject")
    page = admin.get("/people", headers=HTML).text
    assert 'data-post="/people/vera/disable"' in page
    assert 'data-post="/people/vera/password"' not in page  # the provider's
    assert "Signed in now" in page
