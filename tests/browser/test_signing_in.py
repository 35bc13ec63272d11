"""Signing in as a person does it, in a real browser: by keyboard, from a link elsewhere, and when a session ends."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect

from polyward_server.dashboard import presence
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.people import sessions, users
from polyward_shared.supervise import module
from tests.browser.opened import Windows, opened
from tests.support.dashboard import Served, served
from tests.support.story import tell

pytestmark = pytest.mark.slow

PASSWORD = "correct horse battery"  # noqa: S105


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return tell(tmp_path / "hub", rounds=2)


@pytest.fixture
def dashboard(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.5)
    with served(hub) as running:
        with running.ledger.engine.begin() as db:
            users.add(db, "ada", "admin", PASSWORD, actor="test")
        yield running


def test_by_keyboard_alone_and_back_to_where_one_wanted_to_go(dashboard: Served, windows: Windows) -> None:
    with opened(windows, dashboard, "") as page:
        page.goto(f"{dashboard.url}/sites?x=1")
        expect(page).to_have_url(f"{dashboard.url}/sign-in?next=/sites%3Fx%3D1")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("ada")
        page.keyboard.press("Tab")
        page.keyboard.type("wrong wrong wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("name or password is wrong")
        assert "wrong+wrong" not in page.url
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{dashboard.url}/sites?x=1")
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        assert page.evaluate("document.cookie") == ""

        page.get_by_text("ada", exact=True).click()
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(f"{dashboard.url}/sign-in")
        page.go_back()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()  # nothing was kept in the browser


def test_an_open_page_goes_to_sign_in_when_its_session_is_ended(dashboard: Served, windows: Windows) -> None:
    with opened(windows, dashboard, "viewer") as page:
        page.goto(dashboard.url)
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        with dashboard.ledger.engine.begin() as db:
            sessions.end_all(db, "ada")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=10_000)


def test_a_dashboard_that_is_killed_comes_back_under_an_open_page(hub: Hub, windows: Windows) -> None:
    ledger = Ledger(hub.ledger)
    window = windows(Served(hub, ledger), "viewer")
    with _process(hub) as process:
        _wait_for(hub)
        window.goto("/")
        window.live()
        window.page.evaluate("window.same = true")
        process.kill()
        expect(window.page.get_by_text("reconnecting")).to_be_visible(timeout=10_000)
    with _process(hub):
        window.page.wait_for_selector('.live[data-state="live"]', timeout=30_000)
        assert window.page.evaluate("window.same") is True  # it was not loaded anew
        window.page.context.close()
    ledger.close()


def test_a_link_from_another_site_finds_the_session(dashboard: Served, windows: Windows) -> None:
    """The first request bears no cookie, for it comes from elsewhere; the page that answers it leads on."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(f'<link rel="icon" href="data:,"><a href="{dashboard.url}/sites">hub</a>'.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        window = windows(dashboard, "viewer")
        window.page.goto(f"http://localhost:{server.server_port}/")
        window.page.get_by_role("link", name="hub").click()
        expect(window.page).to_have_url(f"{dashboard.url}/sites")
        expect(window.page.get_by_role("heading", name="Sites", level=1)).to_be_visible()
        window.page.context.close()
        server.shutdown()
        thread.join()


def test_people_are_added_changed_and_put_out(dashboard: Served, windows: Windows) -> None:
    with opened(windows, dashboard, "admin", width=390) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"{dashboard.url}/people")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_label("Name").fill("grace")
        page.get_by_label("Role").select_option("coordinator")
        page.get_by_role("button", name="Add").click()
        notice = page.locator("main > .notice")
        expect(notice).to_contain_text("grace may sign in with the first password")
        first = notice.inner_text().partition("first password ")[2].partition(" ")[0]
        row = page.locator("#people").get_by_role("row").filter(has_text="grace")
        expect(row).to_contain_text("coordinator")  # without a reload
        with opened(windows, dashboard, "") as other:
            other.goto(f"{dashboard.url}/sign-in")
            other.get_by_label("Name").fill("Grace ")
            other.get_by_label("Password").fill(first)
            other.get_by_role("button", name="Sign in").click()
            expect(other).to_have_url(f"{dashboard.url}/")
            expect(row).to_contain_text("signed in")
            row.get_by_text("Change").click()
            row.get_by_role("button", name="Disable").click()
            expect(row).to_contain_text("disabled")
            expect(other.get_by_role("heading", name="Sign in")).to_be_visible(timeout=10_000)


@contextmanager
def _process(hub: Hub) -> Iterator[subprocess.Popen[bytes]]:
    """The dashboard as a process of its own."""
    process = subprocess.Popen(module("polyward_server.dashboard", str(hub.folder)), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(hub: Hub) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", hub.file.dashboard_port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the dashboard did not start")
