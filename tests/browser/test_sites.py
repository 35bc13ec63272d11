"""A site joins by the fingerprint that it reads out, and is put out again, on a page that is never loaded anew."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from polyward_client.enrolment import enrol, prepare
from polyward_shared import pki
from polyward_shared.invitation import read_invitation
from tests.browser.opened import Windows, opened
from tests.support.dashboard import Served, served
from tests.support.real_hub import PATIENCE_SECONDS, real_hub, until
from tests.support.story import tell

pytestmark = pytest.mark.slow


def test_a_real_node_is_let_in_and_put_out(tmp_path: Path, windows: Windows) -> None:
    with real_hub(tmp_path) as hub:
        dashboard = Served(hub.hub, hub.ledger)
        until(lambda: answers(dashboard))
        with opened(windows, dashboard) as page:
            page.goto(f"{dashboard.url}/sites")
            expect(page.get_by_text("live", exact=True)).to_be_visible()

            page.locator("#invite-site").fill("tromso")
            page.get_by_role("button", name="Make an invitation").click()
            shown = page.locator("#secret-text")
            expect(shown).to_contain_text("polyward1.")
            invitation = read_invitation(shown.inner_text())
            expect(page.get_by_role("button", name="Withdraw the invitation of tromso")).to_be_visible()
            page.get_by_role("button", name="I have it").click()
            expect(shown).to_be_hidden()
            assert invitation.token not in page.content()

            site = prepare(invitation, tmp_path / "tromso")
            node = threading.Thread(
                target=enrol, args=(invitation, site, lambda _: None), kwargs={"patience": PATIENCE_SECONDS}
            )
            node.start()
            request = page.get_by_role("article", name="tromso asks to join")
            read_out = pki.fingerprint(pki.public_key_pem(pki.read_key(site.key).public_key()))
            request.get_by_label("As read out by the site").fill(read_out[:-4] + "0000")
            request.get_by_role("button", name="Approve tromso").click()
            expect(page.get_by_role("alert").filter(has_text="do not approve")).to_be_visible()
            request.get_by_label("As read out by the site").fill(read_out.upper())
            request.get_by_role("button", name="Approve tromso").click()
            expect(request).to_have_count(0)
            node.join()

            row = page.get_by_role("row").filter(has_text="key, revoke")
            expect(row).to_contain_text("never")
            with hub.linked(site):
                expect(row).to_contain_text("trainer away")
                expect(row).to_contain_text("python")
            row.get_by_text("key, revoke").click()
            expect(row).to_contain_text(read_out)
            row.get_by_label("type its name").fill("tromso")
            row.get_by_role("button", name="Revoke tromso").click()
            expect(page.get_by_role("row").filter(has_text="tromso")).to_contain_text("revoked")
        told = [(each.event.what, each.event.actor) for each in hub.ledger.noted() if each.event.site == "tromso"]
        assert told == [("invited", "ada"), ("asks", ""), ("admitted", "ada"), ("certified", ""), ("revoked", "ada")]


def test_what_somebody_types_outlives_news(tmp_path: Path, windows: Windows) -> None:
    with served(tell(tmp_path / "hub")) as dashboard, opened(windows, dashboard) as page:
        page.goto(f"{dashboard.url}/sites")
        row = page.get_by_role("row").filter(has_text="bergen")
        row.get_by_text("key, revoke").click()
        field = row.get_by_label("type its name")
        field.fill("ber")
        with dashboard.browser("coordinator") as other:
            other.post("/sites/revoke", json={"site": "leiden", "typed": "leiden"})
        expect(page.get_by_role("row").filter(has_text="leiden")).to_contain_text("revoked")
        expect(field).to_have_value("ber")
        expect(field).to_be_focused()


def test_a_study_is_paused_and_resumed_under_the_readers_eyes(tmp_path: Path, windows: Windows) -> None:
    with served(tell(tmp_path / "hub")) as dashboard, opened(windows, dashboard) as page:
        page.goto(dashboard.url)
        page.get_by_role("link", name="breast-demo").click()
        state = page.locator("main .state").first
        expect(state).to_have_text("running")
        page.get_by_role("button", name="Pause after this round").click()
        expect(state).to_have_text("paused")
        page.get_by_role("button", name="Resume").click()
        expect(state).to_have_text("resuming")


def answers(dashboard: Served) -> bool:
    """Whether the dashboard's process serves already."""
    try:
        with dashboard.browser() as client:
            return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False
