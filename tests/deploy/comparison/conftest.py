"""The small federation, written once."""

from __future__ import annotations

import pytest

from polyward_client.site import Site
from polyward_shared.study import Study
from tests.deploy.comparison.federation import small_federation


@pytest.fixture(scope="package")
def federation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[Site]]:
    return small_federation(tmp_path_factory.mktemp("hospitals"))
