"""A page for as long as a block lasts, so that it is closed before its server; nothing may go wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Page

from tests.browser.conftest import Window
from tests.support.dashboard import Served

REFUSED = "Failed to load resource: the server responded with a status of 4"  # a browser notes every refusal
Windows = Callable[..., Window]


@contextmanager
def opened(windows: Windows, dashboard: Served, role: str = "coordinator", *, width: int = 1280) -> Iterator[Page]:
    """A page of somebody named ada with this role."""
    window = windows(dashboard, role, name="ada", width=width)
    yield window.page
    window.page.context.close()
    assert [what for what in window.wrong if not what.startswith(REFUSED)] == []
