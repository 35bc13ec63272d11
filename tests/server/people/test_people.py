"""People, their passwords and sessions, in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_server import audit
from polyward_server.database import Where
from polyward_server.ledger import Ledger
from polyward_server.people import attempts, entry, passwords, sessions, users
from polyward_server.tables import events, failures
from polyward_server.tables import users as table
from polyward_shared.problems import Problem

PASSWORD = "correct horse battery"  # noqa: S105
NOW = 1_800_000_000.0
HERE, THERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    passwords._nobodys.cache_clear()


@pytest.fixture
def engine(where: Where) -> Iterator[sa.Engine]:
    ledger = Ledger(where)
    yield ledger.engine
    ledger.close()


@pytest.fixture
def ada(engine: sa.Engine) -> sa.Engine:
    with engine.begin() as db:
        users.add(db, "ada", "coordinator", PASSWORD, actor="test")
    return engine


def test_every_change_is_an_event_with_the_name_of_who_made_it(ada: sa.Engine) -> None:
    with ada.begin() as db:
        users.change_role(db, "ada", "admin", actor="grace")
        users.change_password(db, "ada", "another password", actor="grace")
        users.disable(db, "ada", actor="grace")
        users.enable(db, "ada", actor="grace")
        told = [tuple(row) for row in db.execute(sa.select(events.c.what, events.c.detail, events.c.actor))]
        assert audit.verify(db)[0] == 5
        assert [(each.name, each.role, each.disabled) for each in users.everybody(db)] == [("ada", "admin", "")]
    assert told == [
        ("person-added", "ada: coordinator", "test"),
        ("person-role", "ada: admin", "grace"),
        ("person-password", "ada", "grace"),
        ("person-disabled", "ada", "grace"),
        ("person-enabled", "ada", "grace"),
    ]
    assert "another password" not in str(told)


@pytest.mark.parametrize(
    ("name", "role", "password", "why"),
    [
        ("ada", "viewer", PASSWORD, "has this name already"),
        ("Bob", "viewer", PASSWORD, "small letters"),
        ("command line", "viewer", PASSWORD, "small letters"),
        ("", "viewer", PASSWORD, "expected"),
        ("b" * 64, "viewer", PASSWORD, "expected"),
        ("bob", "root", PASSWORD, "viewer"),
        ("bob", "viewer", "short", "12 to 256"),
        ("bob", "viewer", "x" * 257, "12 to 256"),
        ("bob", "viewer", "aaaaaaaaaaaabb", "guessed"),
        ("bob.the.builder", "viewer", "Bob.The.Builder", "guessed"),
    ],
)
def test_a_wrong_person_is_not_added(ada: sa.Engine, name: str, role: str, password: str, why: str) -> None:
    with pytest.raises(Problem, match=why) as told, ada.begin() as db:
        users.add(db, name, role, password, actor="test")
    assert password not in str(told.value) or password == PASSWORD
    with ada.connect() as db:
        assert [each.name for each in users.everybody(db)] == ["ada"]


def test_nobody_changes_who_is_not_there(engine: sa.Engine) -> None:
    with engine.begin() as db:
        assert users.nobody_may_sign_in(db)
        for change in (users.disable, users.enable):
            with pytest.raises(Problem, match="nobody of this name"):
                change(db, "ada", actor="test")
        assert db.execute(sa.select(events)).first() is None


def test_signing_in_makes_another_session_each_time(ada: sa.Engine) -> None:
    first = entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    second = entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    found = [sessions.find(ada, each, NOW + 1) for each in (first, second)]
    assert [each.user for each in found if each] == ["ada", "ada"]
    assert len({each.token for each in found if each}) == 2
    assert sessions.find(ada, "", NOW) is None
    assert sessions.find(ada, sessions.hashed(first), NOW) is None
    entry.sign_out(ada, "ada", first)
    assert sessions.find(ada, first, NOW + 1) is None
    assert sessions.find(ada, second, NOW + 1) is not None


@pytest.mark.parametrize(
    ("seconds", "seen", "good"),
    [
        (sessions.IDLE_SECONDS - 1, False, True),
        (sessions.IDLE_SECONDS + 1, False, False),
        (sessions.IDLE_SECONDS + 1, True, True),
        (sessions.LONGEST_SECONDS + 1, True, False),
    ],
)
def test_a_session_lasts_while_it_is_seen_and_never_longer(
    ada: sa.Engine, seconds: float, seen: bool, good: bool
) -> None:
    cookie = entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    for later in range(0, int(seconds), 1200) if seen else ():
        sessions.find(ada, cookie, NOW + later)
    assert (sessions.find(ada, cookie, NOW + seconds) is not None) == good
    with ada.connect() as db:
        assert len(sessions.present(db, NOW + seconds)) == good


def test_a_disabled_person_and_one_of_the_provider_have_no_password(ada: sa.Engine) -> None:
    with ada.begin() as db:
        users.disable(db, "ada", actor="test")
        users.admit(db, "vera", "viewer", "subject")
        with pytest.raises(Problem, match="OpenID provider"):
            users.change_password(db, "vera", PASSWORD, actor="test")
    for name, password in (("ada", PASSWORD), ("vera", ""), ("vera", PASSWORD)):
        with pytest.raises(entry.WrongEntry):
            entry.sign_in(ada, name, password, HERE, NOW)


def test_a_password_is_hashed_anew_when_the_parameters_have_changed(
    ada: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    with ada.connect() as db:
        stored = db.execute(sa.select(table.c.password)).scalar_one()
    assert stored.startswith("$argon2id$v=19$m=8,t=2,p=1$")
    entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)


def test_waits_grow_and_end_and_hold_only_where_the_wrong_passwords_came_from(ada: sa.Engine) -> None:
    now, waits = NOW, []
    for _ in range(10):
        wait, _ = attempts.attempt(ada, "ada", HERE, now)
        assert wait == 0
        wait, _ = attempts.attempt(ada, "ada", HERE, now)  # at once again
        if wait:
            waits.append(wait)
            assert attempts.attempt(ada, "ada", HERE, now)[0] == wait  # asking makes it no longer
        now += wait
    assert waits[:4] == [30.0, 60.0, 120.0, 240.0]
    assert max(waits) <= attempts.LONGEST_WAIT
    assert entry.sign_in(ada, "ada", PASSWORD, THERE, now)  # from elsewhere there is no wait


def test_a_wait_survives_a_restart_and_a_good_sign_in_ends_the_count(ada: sa.Engine, where: Where) -> None:
    for _ in range(attempts.FREE):
        with pytest.raises(entry.WrongEntry):
            entry.sign_in(ada, "ada", "not the password", HERE, NOW)
    again = Ledger(where)
    with pytest.raises(entry.TryLater, match="try again in 30 s"):
        entry.sign_in(again.engine, "ada", PASSWORD, HERE, NOW)
    assert entry.sign_in(again.engine, "ada", PASSWORD, HERE, NOW + 31)
    for _ in range(attempts.FREE):
        with pytest.raises(entry.WrongEntry):
            entry.sign_in(again.engine, "ada", "not the password", HERE, NOW + 32)
    again.close()


def test_an_address_waits_for_all_names_and_an_owner_of_one_account_is_no_way_around(ada: sa.Engine) -> None:
    for number in range(attempts.FREE_OF_ADDRESS):
        attempts.attempt(ada, f"name{number}", HERE, NOW)
        if number < 10:
            entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    with pytest.raises(entry.TryLater):
        entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    assert entry.sign_in(ada, "ada", PASSWORD, THERE, NOW)


def test_addresses_of_one_network_count_as_one(ada: sa.Engine) -> None:
    for number in range(attempts.FREE):
        attempts.attempt(ada, "ada", f"2001:db8:1:2::{number + 1:x}", NOW)
    assert attempts.attempt(ada, "ada", "2001:db8:1:2:ffff::1", NOW)[0] > 0
    assert attempts.attempt(ada, "ada", "2001:db8:1:3::1", NOW)[0] == 0


def test_what_was_typed_as_a_name_is_not_written_down(ada: sa.Engine) -> None:
    with pytest.raises(entry.WrongEntry):
        entry.sign_in(ada, "my secret password", "ada", HERE, NOW)
    with ada.connect() as db:
        written = " ".join(str(tuple(row)) for each in (failures, events) for row in db.execute(sa.select(each)))
    assert "my secret" not in written


def test_old_attempts_are_forgotten_and_so_are_those_of_a_clock_that_was_ahead(ada: sa.Engine) -> None:
    for _ in range(attempts.FREE):
        attempts.attempt(ada, "ada", HERE, NOW)
    assert attempts.attempt(ada, "ada", HERE, NOW + attempts.REMEMBERED_SECONDS + 1) == (0.0, 1)
    assert attempts.attempt(ada, "ada", HERE, NOW - 3600) == (0.0, 1)


def test_ones_own_password_needs_the_present_one(ada: sa.Engine) -> None:
    cookie = entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    with pytest.raises(entry.WrongEntry):
        entry.change_own(ada, "ada", "not the present one", "another password", HERE, NOW)
    new = entry.change_own(ada, "ada", PASSWORD, "another password", HERE, NOW)
    assert sessions.find(ada, cookie, NOW) is None
    assert sessions.find(ada, new, NOW) is not None
    with pytest.raises(Problem):
        entry.change_own(ada, "ada", "another password", "short", HERE, NOW)
    assert sessions.find(ada, new, NOW) is not None  # nothing has changed


def test_an_old_password_is_no_way_around_its_renewal(ada: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    entry.sign_in(ada, "ada", PASSWORD, HERE, NOW)
    right = passwords.is_right

    def renewed_meanwhile(stored: str, password: str) -> bool:
        found = right(stored, password)
        with ada.begin() as db:
            users.change_password(db, "ada", "of the admin's choice", actor="eve")
        return found

    monkeypatch.setattr(passwords, "is_right", renewed_meanwhile)
    with pytest.raises(entry.WrongEntry):
        entry.change_own(ada, "ada", PASSWORD, "of the thief's choice", HERE, NOW)
    monkeypatch.undo()
    assert entry.sign_in(ada, "ada", "of the admin's choice", HERE, NOW)


def test_who_is_vouched_for_has_the_role_of_today(engine: sa.Engine) -> None:
    first = entry.vouched(engine, "vera", "admin", "subject", NOW)
    again = entry.vouched(engine, "vera", "viewer", "subject", NOW)
    assert sessions.find(engine, first, NOW) is None  # its role is another now
    found = sessions.find(engine, again, NOW)
    assert found is not None
    assert found.role == "viewer"


def test_nobody_is_vouched_into_another_ones_place(ada: sa.Engine) -> None:
    with pytest.raises(Problem, match="has this name already"):
        entry.vouched(ada, "ada", "admin", "a stranger", NOW)
    entry.vouched(ada, "vera", "admin", "subject", NOW)
    with pytest.raises(Problem, match="is known here as vera"):
        entry.vouched(ada, "verena", "admin", "subject", NOW)
    with ada.begin() as db:
        users.disable(db, "vera", actor="test")
    with pytest.raises(Problem, match="may not sign in"):
        entry.vouched(ada, "vera", "admin", "subject", NOW)


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=12, max_size=60).filter(lambda text: len(set(text)) > 6))
def test_a_password_is_right_and_no_other(password: str) -> None:
    stored = passwords.hashed(password)
    assert passwords.is_right(stored, password)
    assert not passwords.is_right(stored, password + "x")
    assert not passwords.is_right("", password)
    assert not passwords.is_right("not a hash", password)


def test_what_keyboards_write_in_two_ways_is_one_password() -> None:
    assert passwords.is_right(passwords.hashed("Z\u00fcrich-See-123"), "Zu\u0308rich-See-123")


def test_first_passwords_are_good_and_never_the_same() -> None:
    found = {passwords.first_password() for _ in range(50)}
    assert len(found) == 50
    assert all(passwords.checked("ada", each) == each for each in found)
