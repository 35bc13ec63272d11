"""Every page, light and dark, on a desk and on a phone: nothing goes wrong in it, nothing is out of reach.

With POLYWARD_SCREENS naming a folder, each page is also drawn there, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request

from tests.browser.conftest import Window
from tests.browser.filled import Filled, filled
from tests.browser.opened import REFUSED, Windows
from tests.support.dashboard import Served, served

pytestmark = pytest.mark.slow

DESK, PHONE = 1360, 390
LIVE = {"overview", "study", "study-crowded", "study-empty", "sites", "registry", "audit", "people"}
CROWDED = {"study-crowded"}  # made of what other pages are made of; axe would look at it for half a minute
VIOLATIONS = """addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
BEYOND = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("body *")].filter((each) => {
    const box = each.getBoundingClientRect();
    return box.right > innerWidth + 1 && !each.parentElement.closest(".scroll, .chart");
  }).map((each) => each.outerHTML.slice(0, 90))"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A dashboard and what is in it."""

    dashboard: Served
    told: Filled


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    told = filled(tmp_path_factory.mktemp("filled"))
    with served(told.hub) as dashboard:
        yield Shown(dashboard, told)


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        pytest.param(DESK, False, id="desk-light"),
        pytest.param(PHONE, True, id="phone-dark"),
        pytest.param(DESK, True, id="desk-dark", marks=pytest.mark.whole),
        pytest.param(PHONE, False, id="phone-light", marks=pytest.mark.whole),
    ],
)
def test_nothing_goes_wrong_on_any_page(shown: Shown, windows: Windows, width: int, dark: bool) -> None:
    window = windows(shown.dashboard, "admin", name="ada", width=width, dark=dark)
    window.page.add_init_script(VIOLATIONS)
    window.page.on("requestfailed", lambda asked: _failed(window, asked))
    look, found = f"{'phone' if width == PHONE else 'desk'}-{'dark' if dark else 'light'}", []
    for name, path in shown.told.pages().items():
        found += [f"{look} {name}: {what}" for what in _visited(window, name, path, look)]
    nobody = windows(shown.dashboard, width=width, dark=dark)
    nobody.page.add_init_script(VIOLATIONS)
    found += [f"{look} sign-in: {what}" for what in _visited(nobody, "sign-in", "/sign-in", look)]
    assert not found, "\n".join(found)


def _visited(window: Window, name: str, path: str, look: str) -> list[str]:
    """What is wrong on this page."""
    page = window.page
    window.wrong.clear()
    window.goto(path)
    if name in LIVE:
        window.live()
    found = [f"reaches beyond the window: {each}" for each in page.evaluate(BEYOND)]
    if name not in CROWDED:
        found += _inaccessible(page)
    if folder := os.environ.get("POLYWARD_SCREENS"):
        page.screenshot(path=Path(folder) / f"{name}-{look}.png", full_page=True)
    page.goto("about:blank")  # what the page says when it is left belongs to it
    refused = name == "refusal"
    return found + [what for what in window.wrong if not (refused and what.startswith(REFUSED))]


def _failed(window: Window, asked: Request) -> None:
    """A stream ends when its page is left; nothing else may fail."""
    if "/live/" not in asked.url:
        window.wrong.append(f"failed: {asked.url}")


def _inaccessible(page: Page) -> list[str]:
    """What axe finds that keeps somebody from using the page."""
    heavy = [each for each in Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}]
    return [f"{each['id']}: {node['html'][:160]} {node['target']}" for each in heavy for node in each["nodes"][:4]]
