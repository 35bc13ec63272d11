"""A page that stays open while a real hub with all its processes is used, ended, started again, and killed in part."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Page, expect

from polyward_server.people import users
from polyward_server.records import State
from tests.browser.conftest import Window
from tests.browser.opened import Windows
from tests.browser.test_sites import answers
from tests.browser.test_study_page import commits
from tests.support.dashboard import Served
from tests.support.real_hub import RealHub, until
from tests.support.story import fill

pytestmark = pytest.mark.slow

PASSWORD = "correct horse battery"  # noqa: S105
AWAY = "net::ERR_"  # what a browser notes of a hub that is not there
PATIENCE = 30_000.0  # milliseconds


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    """Running, with a paused study of twelve rounds: its runner lets it be, and the test commits rounds."""
    running = RealHub(tmp_path_factory.mktemp("hub"))
    running.ledger.set_state(fill(running.ledger), State.PAUSED)
    with running.ledger.engine.begin() as db:
        users.add(db, "ada", "coordinator", PASSWORD, actor="test")
    try:
        running.start()
        until(lambda: answers(Served(running.hub, running.ledger)))
        yield running
    finally:
        running.stop()
        running.ledger.close()


def test_it_comes_back_with_what_it_missed_and_the_session_holds(hub: RealHub, windows: Windows) -> None:
    served = Served(hub.hub, hub.ledger)
    window: Window = windows(served)
    page = window.page
    window.goto("/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="breast-demo").click()
    window.live()
    page.evaluate("window.same = true")
    _shows(page, 12)
    commits(served, 13)
    _shows(page, 13)

    hub.stop()
    expect(page.get_by_text("reconnecting")).to_be_visible(timeout=PATIENCE)
    commits(served, 14)
    hub.start()
    _shows(page, 14)
    expect(page.get_by_text("live", exact=True)).to_be_visible()

    [dashboard] = _dashboards(hub)
    dashboard.kill()
    expect(page.get_by_text("reconnecting")).to_be_visible(timeout=PATIENCE)
    commits(served, 15)
    _shows(page, 15)
    assert [each.pid for each in _dashboards(hub)] != [dashboard.pid]  # its supervisor has started another
    assert page.evaluate("window.same") is True  # it was never loaded anew

    page.get_by_role("button", name="Resume").click()  # the session is still good, and so is its token
    expect(page.locator('[data-panel="head"] .state')).not_to_have_text("paused")
    page.get_by_text("ada", exact=True).first.click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    window.goto("/sites")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.context.close()
    assert [what for what in window.wrong if AWAY not in what] == []


def _shows(page: Page, number: int) -> None:
    expect(page.get_by_text(f"round {number} of 24")).to_be_visible(timeout=PATIENCE)


def _dashboards(hub: RealHub) -> list[psutil.Process]:
    """The processes that serve it."""
    assert hub.process is not None
    below = psutil.Process(hub.process.pid).children(recursive=True)
    return [each for each in below if "polyward_server.dashboard" in each.cmdline()]
