"""The hub's patience, shortened for tests."""

from __future__ import annotations

import pytest

from polyward_server import exchange, joining, rounds


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PRESENCE_SECONDS", 0.02)
    monkeypatch.setattr(exchange, "PULL_SECONDS", 0.002)
    monkeypatch.setattr(rounds, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(joining, "JOIN_SECONDS", 1.0)
