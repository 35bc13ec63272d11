"""A dashboard over a study in mid-run, once for all tests of a module; and passwords that cost little."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from polyward_server.people import passwords
from tests.support.dashboard import Served, served
from tests.support.story import tell

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", QUICK)
        with served(tell(tmp_path_factory.mktemp("hub") / "hub")) as running:
            yield running
