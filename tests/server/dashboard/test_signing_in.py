"""Signing in and out: cookies, sessions, wrong passwords, and streams that end with their session."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from polyward_server.dashboard import presence
from polyward_server.people import attempts, sessions, users
from polyward_server.tables import events, failures
from polyward_server.tables import sessions as kept
from tests.support.dashboard import Served
from tests.support.signed_in import COOKIE

PASSWORD = "correct horse battery"  # noqa: S105
HTML = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def _anew(dashboard: Served) -> Iterator[None]:
    """Ada, who may sign in; and no attempts that an earlier test has made."""
    with dashboard.ledger.engine.begin() as db:
        db.execute(failures.delete())
        if all(each.name != "ada" for each in users.everybody(db)):
            users.add(db, "ada", "admin", PASSWORD, actor="test")
    yield
    with dashboard.ledger.engine.begin() as db:
        sessions.end_all(db, "ada")


def _enter(client: httpx.Client, name: str = "ada", password: str = PASSWORD, **more: str) -> httpx.Response:
    return client.post("/sign-in", json={"name": name, "password": password, **more})


def test_the_page_can_be_read_by_anybody_and_leads_on(dashboard: Served) -> None:
    with dashboard.browser() as client:
        page = client.get("/sign-in", params={"next": "/sites"}, headers=HTML)
        assert page.status_code == 200
        assert 'name="next" value="/sites"' in page.text
        assert 'value="/"' in client.get("/sign-in", params={"next": "//evil.example"}).text
        answer = _enter(client, next="/sites")
        assert answer.json() == {"go": "/sites"}
        assert client.get("/", headers=HTML).status_code == 200
        assert client.get("/sign-in", params={"next": "//evil.example"}).headers["location"] == "/"


def test_the_cookie_is_for_this_host_over_tls_and_not_for_scripts(dashboard: Served) -> None:
    with dashboard.browser() as client:
        cookie = _enter(client).headers["set-cookie"]
    value, *rest = [part.strip().lower() for part in cookie.split(";")]
    assert value.startswith(f"{COOKIE.lower()}=")
    assert len(value.partition("=")[2]) == 43  # 256 bits
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= set(rest)
    assert not any(part.startswith("domain") for part in rest)


def test_the_ledger_holds_no_cookie(dashboard: Served) -> None:
    with dashboard.browser() as client:
        _enter(client)
        mine = client.cookies[COOKIE]
    with dashboard.ledger.engine.connect() as db:
        assert mine not in {row.id for row in db.execute(sa.select(kept))}


def test_a_cookie_from_elsewhere_never_becomes_a_session(dashboard: Served) -> None:
    chosen = {"cookie": f"{COOKIE}=chosen-by-an-attacker"}
    with dashboard.browser() as client, dashboard.browser() as attacker:
        client.headers.update(chosen)
        assert _enter(client).status_code == 200
        given = client.cookies[COOKIE]
        assert given != "chosen-by-an-attacker"
        assert attacker.get("/api/studies", headers=chosen).status_code == 401
    with dashboard.browser() as client:
        client.cookies.set(COOKIE, given, domain="127.0.0.1")
        _enter(client)
        assert client.cookies[COOKIE] != given


@pytest.mark.parametrize("name", ["ada", "nobody", "test-viewer", "' OR 1=1 --", "", "\u202e<b>", "ada\0", "a" * 300])
def test_a_wrong_password_and_a_wrong_name_are_told_alike(dashboard: Served, name: str) -> None:
    with dashboard.browser() as client:
        answer = _enter(client, name, "not the password at all")
    assert (answer.status_code, answer.json()) == (403, {"detail": "name or password is wrong"})
    assert "set-cookie" not in answer.headers


def test_what_is_no_text_is_refused_in_words(dashboard: Served) -> None:
    with dashboard.browser() as client:
        client.headers["content-type"] = "application/json"
        for body in (b'{"name": "\\ud800", "password": "x"}', b'{"name": 5}', b"[]", b"{", b"", b'{"name":{"$ne":1}}'):
            answer = client.post("/sign-in", content=body)
            assert answer.status_code == 422, body
            assert isinstance(answer.json()["detail"], str)
        long = client.post("/sign-in", json={"name": "ada", "password": "my-secret" * 100})
        assert long.status_code == 422
        assert "my-secret" not in long.text


def test_a_person_of_the_provider_has_no_password(dashboard: Served) -> None:
    with dashboard.ledger.engine.begin() as db:
        users.admit(db, "vera", "viewer", "subject")
    with dashboard.browser() as client:
        assert _enter(client, "vera", "").status_code == 403


def test_after_five_wrong_passwords_the_right_one_waits_too(dashboard: Served) -> None:
    with dashboard.browser() as client:
        for _ in range(attempts.FREE):
            assert _enter(client, "ada", "wrong wrong wrong").status_code == 403
        answer = _enter(client)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= attempts.FIRST_WAIT
        assert "try again in" in answer.json()["detail"]
    with dashboard.ledger.engine.connect() as db:
        told = db.execute(sa.select(events.c.detail).where(events.c.what == "sign-in-failed")).scalars().all()
    assert told == ["ada: 5 times from 127.0.0.1"]


def test_many_names_from_one_address_wait_as_well(dashboard: Served) -> None:
    with dashboard.browser() as client:
        answers = [_enter(client, f"name{n}").status_code for n in range(attempts.FREE_OF_ADDRESS + 2)]
    assert answers == [403] * attempts.FREE_OF_ADDRESS + [429] * 2


def test_attempts_at_once_are_all_counted(dashboard: Served) -> None:
    found: list[int] = []

    def try_it() -> None:
        with dashboard.browser() as client:
            found.append(_enter(client, "ada", "wrong wrong wrong").status_code)

    threads = [threading.Thread(target=try_it) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [403] * attempts.FREE + [429] * (12 - attempts.FREE)


def test_a_session_is_gone_after_sign_out_whoever_has_its_cookie(dashboard: Served) -> None:
    with dashboard.browser() as client, dashboard.browser() as thief:
        _enter(client)
        thief.cookies.set(COOKIE, client.cookies[COOKIE])
        assert thief.get("/api/studies").status_code == 200
        page = client.get("/account", headers=HTML).text
        token = page.partition('name="token" content="')[2].partition('"')[0]
        answer = client.post("/sign-out", json={}, headers={"x-token": token})
        assert answer.json() == {"go": "/sign-in"}
        assert "max-age=0" in answer.headers["set-cookie"].lower()
        assert thief.get("/api/studies").status_code == 401


@pytest.mark.parametrize("what", ["role", "password", "disable"])
def test_who_is_changed_is_signed_out(dashboard: Served, what: str) -> None:
    with dashboard.browser() as client:
        _enter(client)
        assert client.get("/api/studies").status_code == 200
        with dashboard.ledger.engine.begin() as db:
            if what == "role":
                users.change_role(db, "ada", "admin", actor="test")
            elif what == "password":
                users.change_password(db, "ada", PASSWORD, actor="test")
            else:
                users.disable(db, "ada", actor="test")
        assert client.get("/api/studies").status_code == 401
        if what == "disable":
            assert _enter(client).status_code == 403
    with dashboard.ledger.engine.begin() as db:
        users.enable(db, "ada", actor="test")


def test_a_session_that_is_too_old_or_idle_opens_nothing(dashboard: Served) -> None:
    for column, seconds in (("seen", sessions.IDLE_SECONDS), ("began", sessions.LONGEST_SECONDS)):
        with dashboard.browser() as client:
            _enter(client)
            with dashboard.ledger.engine.begin() as db:
                mine = kept.c.id == sessions.hashed(client.cookies[COOKIE])
                db.execute(kept.update().where(mine).values({column: time.time() - seconds + 20}))
            assert client.get("/api/studies").status_code == 200
            with dashboard.ledger.engine.begin() as db:
                db.execute(kept.update().where(mine).values({column: time.time() - seconds - 1}))
            assert client.get("/api/studies").status_code == 401


def test_a_stream_ends_with_its_session_and_says_so(dashboard: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.2)
    with dashboard.browser() as client:
        _enter(client)
        with client.stream("GET", "/live/overview") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event:")) == "event: panel"
            with dashboard.ledger.engine.begin() as db:
                sessions.end_all(db, "ada")
            assert "event: signed-out" in list(lines)  # which ends, too


def test_an_open_stream_counts_as_presence_until_the_longest_life(
    dashboard: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.1)
    with dashboard.browser() as client:
        _enter(client)
        mine = kept.c.id == sessions.hashed(client.cookies[COOKIE])
        with client.stream("GET", "/live/overview") as stream:
            lines = stream.iter_lines()
            next(lines)
            with dashboard.ledger.engine.begin() as db:
                db.execute(kept.update().where(mine).values(seen=time.time() - 100))
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                with dashboard.ledger.engine.connect() as db:
                    if db.execute(sa.select(kept.c.seen).where(mine)).scalar_one() > time.time() - 50:
                        break
                time.sleep(0.05)
            else:
                pytest.fail("the stream was not noted as presence")
            with dashboard.ledger.engine.begin() as db:
                db.execute(kept.update().where(mine).values(began=time.time() - sessions.LONGEST_SECONDS - 1))
            assert "event: signed-out" in list(lines)


def test_the_log_names_the_path_and_not_the_query(dashboard: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="polyward_server"), dashboard.browser("viewer") as client:
        client.get("/api/studies", params={"secret": "in-the-query"})
        client.get("/api/%0aforged", params={})
        _enter(client, "typed-a-secret-here", "another-secret")
    told = "\n".join(each.getMessage() for each in caplog.records if not each.name.startswith("httpx"))  # the browser's
    assert "/api/studies 200" in told
    assert "/api/%0aforged" in told
    for secret in ("in-the-query", "typed-a-secret", "another-secret", client.cookies.get(COOKIE) or "?"):
        assert secret not in told
