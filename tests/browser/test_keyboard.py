"""Every page by keyboard alone: all controls are reached and seen, content is one key away, menus close."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.filled import Filled, filled
from tests.browser.opened import Windows, opened
from tests.support.dashboard import Served, served

pytestmark = pytest.mark.slow

LEFT_OUT = {"study", "study-crowded", "study-empty", "audit-chosen"}  # `test_study_page` goes through a study's page
CONTROLS = "a[href], button, select, input, textarea, summary, [tabindex='0']"
WATCH = f"""() => {{
  window.reached = new Set();
  window.unseen = new Set();
  document.addEventListener("focusin", ({{ target }}) => {{
    reached.add(target);
    const around = [target, target.closest("label.button")].filter(Boolean).map((each) => getComputedStyle(each));
    const ring = around.some((each) => each.outlineStyle !== "none" && parseFloat(each.outlineWidth) > 0);
    if (!ring && target.id !== "main") unseen.add(target);
  }});
  return [...document.querySelectorAll("{CONTROLS}")].filter((each) => each.checkVisibility()).length;
}}"""
MISSED = f"""() => [
  ...[...document.querySelectorAll("{CONTROLS}")]
    .filter((each) => each.checkVisibility() && each.tabIndex >= 0 && !each.disabled && each.type !== "hidden")
    .filter((each) => !reached.has(each))
    .map((each) => `never reached: ${{each.outerHTML.slice(0, 120)}}`),
  ...[...unseen].map((each) => `focus is not seen: ${{each.outerHTML.slice(0, 120)}}`),
]"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Filled]]:
    told = filled(tmp_path_factory.mktemp("filled"))
    with served(told.hub) as dashboard:
        yield dashboard, told


def test_every_control_of_every_page_is_reached_and_seen(shown: tuple[Served, Filled], windows: Windows) -> None:
    dashboard, told = shown
    missed: list[str] = []
    with opened(windows, dashboard, "admin") as page:
        for name, path in told.pages().items():
            if name not in LEFT_OUT:
                page.goto(dashboard.url + path)
                missed += [f"{name}: {each}" for each in _walked(page)]
    with opened(windows, dashboard, "") as page:
        page.goto(f"{dashboard.url}/sign-in")
        missed += [f"sign-in: {each}" for each in _walked(page)]
    assert not missed, "\n".join(missed)


def test_the_content_is_one_key_away_and_the_menu_closes(shown: tuple[Served, Filled], windows: Windows) -> None:
    dashboard, _ = shown
    with opened(windows, dashboard, "admin", width=390) as page:
        page.goto(dashboard.url)
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="New study")).to_be_focused()

        menu, out = page.locator("details.menu summary"), page.get_by_role("button", name="Sign out")
        menu.focus()
        page.keyboard.press("Enter")
        expect(out).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Escape")
        expect(out).to_be_hidden()
        expect(menu).to_be_focused()
        menu.click()
        expect(out).to_be_visible()
        page.get_by_role("heading", name="Studies", level=1).click()
        expect(out).to_be_hidden()


def _walked(page: Page) -> list[str]:
    """Goes round the whole page by Tab; what was never reached, and where nobody could see the focus."""
    missed: list[str] = []
    for _ in range(2):  # news may take the place of a panel while one goes through it
        controls = int(page.evaluate(WATCH))
        page.evaluate("document.activeElement.blur()")
        for _ in range(controls + 8):
            page.keyboard.press("Tab")
        missed = [str(each) for each in page.evaluate(MISSED)]
        if not missed:
            break
    return missed
