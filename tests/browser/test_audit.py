"""The record of events in a browser: news without loading, filters, and the alarm on whatever page is open."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from polyward_server.records import Event
from tests.browser.opened import Windows, opened
from tests.server.dashboard.test_record_page import falsify
from tests.support.dashboard import served
from tests.support.story import tell

pytestmark = pytest.mark.slow


def test_events_arrive_and_filters_hold(tmp_path: Path, windows: Windows) -> None:
    with served(tell(tmp_path / "hub")) as dashboard, opened(windows, dashboard, "viewer") as page:
        page.goto(f"{dashboard.url}/audit")
        expect(page.get_by_text("The record is whole")).to_be_visible()
        dashboard.ledger.note(Event("", 0, "porto", "asks", "<b>now</b>"))
        first = page.locator("[data-panel=events] tbody tr").first
        expect(first).to_contain_text("<b>now</b>")
        page.get_by_label("Kind").select_option("committed")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("tbody tr").filter(has_text="committed")).to_have_count(13)
        expect(page.get_by_label("Kind")).to_have_value("committed")
        page.get_by_role("link", name="All", exact=True).click()
        page.get_by_role("link", name="older").click()
        expect(page.get_by_role("heading", name="before number")).to_be_visible()


def test_a_broken_record_is_told_on_a_page_that_is_open(tmp_path: Path, windows: Windows) -> None:
    with served(tell(tmp_path / "hub")) as dashboard, opened(windows, dashboard) as page:
        page.goto(f"{dashboard.url}/sites")
        alarm = page.get_by_text("The record of events does not agree")
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        expect(alarm).to_have_count(0)
        falsify(dashboard.ledger, 5)
        with dashboard.browser("coordinator") as other:
            other.post("/audit/verify", json={})
        expect(alarm).to_be_visible()
        page.get_by_role("link", name="See the record").click()
        expect(page.locator(".verdict")).to_contain_text("event 5 of the ledger")
        expect(alarm).to_be_visible()
