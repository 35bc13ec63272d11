"""A hub whose study is in mid-run, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_server.hub import Hub
from tests.support.story import tell


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """The story's hub. Tests that change it make one of their own."""
    return tell(tmp_path_factory.mktemp("told") / "hub")


@pytest.fixture
def brief(tmp_path: Path) -> Hub:
    """Two sites and two rounds, to be changed at will."""
    return tell(tmp_path / "hub", rounds=2, sites={"bergen": 412, "leiden": 187})
