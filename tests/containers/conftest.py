"""A real engine, and the project's images as they are delivered, built once for all these tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.containers.deployed import build_images
from tests.support.engine import Engine, missing


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Running; what a test restarts, it leaves running."""
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    made = Engine()
    ours = made.start()
    yield made
    made.client.close()
    if ours:
        made.stop()


@pytest.fixture(scope="session")
def images(engine: Engine) -> Engine:
    """The engine, once it has the base (made by debootstrap: nothing can be pulled) and our images upon it."""
    build_images(engine)
    return engine
