"""The hub's patience, shortened for tests; and a place for a ledger in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polyward_server import exchange, joining, rounds
from polyward_server.database import Where
from tests.support.postgres import Server, postgres_server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PRESENCE_SECONDS", 0.02)
    monkeypatch.setattr(exchange, "PULL_SECONDS", 0.002)
    monkeypatch.setattr(rounds, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(joining, "JOIN_SECONDS", 1.0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A running PostgreSQL server; a test that asks for it is left out where none is installed."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Where]:
    """Where there is no ledger yet. A test that asks for it runs once on each database."""
    if request.param == "sqlite":
        yield tmp_path / "ledger.db"
        return
    server: Server = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop(url)
