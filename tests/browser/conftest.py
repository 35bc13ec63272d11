"""One headless Chromium for the whole session. A server starts before the pages that look at it, and ends last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.dashboard import Served
from tests.support.signed_in import signed_in


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's, or the one that the environment names."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@dataclass
class Window:
    """A page of one dashboard, and everything that went wrong in it or left for elsewhere."""

    page: Page
    served: Served
    wrong: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on(
            "console", lambda said: self.wrong.append(said.text) if said.type in {"error", "warning"} else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda asked: None if self._is_ours(asked.url) else self.wrong.append(asked.url))

    def _is_ours(self, url: str) -> bool:
        return url.startswith((self.served.url, "data:"))

    def goto(self, path: str) -> None:
        self.page.goto(self.served.url + path)

    def live(self) -> None:
        """Waits until the page's stream has begun."""
        self.page.wait_for_selector('.live[data-state="live"]')


@pytest.fixture
def windows(chromium: Browser) -> Iterator[Callable[..., Window]]:
    """Opens windows: `windows(served, role, width=..., dark=...)`, with a signed-in person of this role, or nobody."""
    contexts: list[BrowserContext] = []

    def opened(served: Served, role: str = "", *, name: str = "", width: int = 1280, dark: bool = False) -> Window:
        context = chromium.new_context(
            ignore_https_errors=True,  # of the hub's own authority, which this browser does not know
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        if role:
            for cookie, value in signed_in(served.ledger, role, name).items():
                context.add_cookies([{"name": cookie, "value": value, "url": served.url, "secure": True}])
        window = Window(context.new_page(), served)
        window.watch()
        return window

    yield opened
    for context in contexts:
        context.close()
