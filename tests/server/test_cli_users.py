"""`polyward-hub user` and `sessions`, as they are typed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from click.testing import Result
from typer.testing import CliRunner

from polyward_server.cli.app import app
from polyward_server.hub import Hub, init, serve
from polyward_server.ledger import Ledger
from polyward_server.people import entry, passwords, sessions, users
from polyward_server.tables import events
from polyward_shared.problems import Problem

PASSWORD = "correct horse battery"  # noqa: S105


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return init(tmp_path / "hub", name="hub", host="127.0.0.1", port=8443)


def _run(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], input=typed)


def test_a_person_is_added_and_may_sign_in_until_disabled(hub: Hub) -> None:
    added = _run("user", "add", hub.folder, "ada", "--role", "admin", "--password-stdin", typed=f"{PASSWORD}\n")
    assert added.exit_code == 0, added.output
    assert PASSWORD not in added.output
    ledger = Ledger(hub.ledger)
    entry.sign_in(ledger.engine, "ada", PASSWORD, "192.0.2.1", time.time())
    assert "ada" in _run("sessions", hub.folder).output
    assert "admin" in _run("user", "list", hub.folder).output
    assert _run("sessions", hub.folder, "--end", "ada").exit_code == 0
    with ledger.engine.connect() as db:
        assert sessions.present(db, time.time()) == []
    assert _run("user", "disable", hub.folder, "ada").exit_code == 0
    with pytest.raises(entry.WrongEntry):
        entry.sign_in(ledger.engine, "ada", PASSWORD, "192.0.2.1", time.time())
    assert _run("user", "enable", hub.folder, "ada").exit_code == 0
    assert _run("user", "role", hub.folder, "ada", "viewer").exit_code == 0
    new = _run("user", "password", hub.folder, "ada", "--password-stdin", typed="another password\n")
    assert new.exit_code == 0
    entry.sign_in(ledger.engine, "ada", "another password", "192.0.2.1", time.time())
    with ledger.engine.connect() as db:
        told = db.execute(sa.select(events.c.what, events.c.actor)).all()
    assert [row.what for row in told if row.actor == "command line"] == [
        "person-added",
        "signed-out",
        "person-disabled",
        "person-enabled",
        "person-role",
        "person-password",
    ]
    ledger.close()


@pytest.mark.parametrize(
    ("arguments", "typed", "why"),
    [
        (("user", "add", "ada", "--password-stdin"), "short\n", "12 to 256"),
        (("user", "add", "ada", "--password-stdin"), "", "12 to 256"),
        (("user", "add", "Ada", "--password-stdin"), f"{PASSWORD}\n", "small letters"),
        (("user", "add", "ada"), f"{PASSWORD}\n{PASSWORD}\n", "--password-stdin"),
        (("user", "disable", "nobody"), "", "nobody of this name"),
        (("user", "password", "nobody", "--password-stdin"), f"{PASSWORD}\n", "nobody of this name"),
        (("sessions", "--end", "nobody"), "", "nobody of this name"),
    ],
)
def test_a_mistake_is_a_sentence(hub: Hub, arguments: tuple[str, ...], typed: str, why: str) -> None:
    place = 1 if arguments[0] == "sessions" else 2
    told = _run(*arguments[:place], hub.folder, *arguments[place:], typed=typed)
    assert isinstance(told.exception, Problem)
    assert why in str(told.exception)
    assert PASSWORD not in str(told.exception)


def test_a_password_is_no_argument(hub: Hub) -> None:
    told = _run("user", "add", hub.folder, "ada", "--password", PASSWORD)
    assert told.exit_code == 2
    ledger = Ledger(hub.ledger)
    with ledger.engine.connect() as db:
        assert users.everybody(db) == []
    ledger.close()


def test_serving_says_that_nobody_can_sign_in(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    stop.set()
    with caplog.at_level("WARNING"):
        serve(hub, stop)
    assert "NOBODY CAN SIGN IN" in caplog.text
    assert f"polyward-hub user add {hub.folder}" in caplog.text


def test_serving_with_a_provider_says_so_while_nobody_has_a_role(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    file = hub.folder / "hub.toml"
    roles = '[oidc]\nissuer = "https://login.example"\nclient_id = "p"\n[oidc.roles]\n"the-staff" = "viewer"\n'
    file.write_text(file.read_text() + roles)
    stop = threading.Event()
    stop.set()
    with caplog.at_level("WARNING"):
        serve(Hub(hub.folder), stop)
    assert "NOBODY HAS A ROLE" in caplog.text
    assert "'groups' is one of the-staff" in caplog.text
