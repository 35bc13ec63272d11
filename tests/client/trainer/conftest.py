"""One finished study for all tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_client.site import Site
from polyward_shared.study import Study
from tests.support.finished import finish_study


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Study, Path]:
    """All five tasks of `tests.support.images`, 30 images of which six are in val and six in test."""
    return finish_study(tmp_path_factory.mktemp("finished"), toml="[policy]\nminimum_count = 2\n")
