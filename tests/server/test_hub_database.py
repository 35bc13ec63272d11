"""A hub whose ledger is in a PostgreSQL server: its processes run, sites enrol, and no password lies about."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from polyward_server.hub import Hub, serve
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared.pki import write_secret
from polyward_shared.problems import Problem
from tests.server.test_keeping import settle
from tests.support.postgres import Server
from tests.support.real_hub import RealHub, until

PASSWORD = "s3cret-of-the-database"  # noqa: S105


def test_a_site_enrols_at_a_hub_with_a_database_server(postgres: Server, tmp_path: Path) -> None:
    running = RealHub(tmp_path)
    running.ledger.close()
    url = postgres.new_database()
    settle(running.hub, str(url))
    write_secret(running.hub.password, f"{PASSWORD}\n".encode())
    running.hub = Hub(running.hub.folder)
    running.ledger = Ledger(running.hub.ledger)
    running.roster = Roster(running.ledger)
    try:
        running.start()
        site = running.enrolled("north", tmp_path)
        with running.linked(site):
            assert "north" in running.roster.keys()  # noqa: SIM118  a method of the roster, not of a mapping
        until(lambda: not running.is_here("north"))
        postgres.stop()
        postgres.start()
        with running.linked(site):  # the hub's processes found the server again
            pass
    finally:
        running.stop()
        running.ledger.close()
    log = (tmp_path / "hub.log").read_text()
    assert PASSWORD not in log
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert holding == [running.hub.password]
    assert stat.S_IMODE(running.hub.password.stat().st_mode) == 0o600
    assert json.loads((running.hub.folder / "superlink.json").read_text())["ledger"] == str(url)
    postgres.drop(url)


def test_a_hub_whose_database_server_is_away_says_so(tmp_path: Path) -> None:
    running = RealHub(tmp_path)
    running.ledger.close()
    settle(running.hub, "postgresql://polyward@127.0.0.1:9/ledger")
    with pytest.raises(Problem, match="the database does not let us in") as caught:
        serve(Hub(running.hub.folder), threading.Event())
    assert "see that its server runs" in caught.value.remedy
