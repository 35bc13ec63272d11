"""Names made of markup in a browser: none of it becomes an element, none of it runs, none of it asks anybody anything.

Had a name become markup, the content policy would stop its script and say so: that counts as a failure here too.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from polyward_server.records import Event
from polyward_server.tables import rounds
from tests.browser.opened import Windows
from tests.browser.test_every_page import VIOLATIONS
from tests.support.dashboard import served
from tests.support.hostile import MARKUP, SITE, hostile_hub

pytestmark = pytest.mark.slow

ALARMS = "window.ran = []; for (const each of ['alert', 'confirm', 'prompt']) window[each] = () => ran.push(each);"
OURS = "a[href^='javascript'], xss, img, iframe, object, embed, script:not([src^='/static/']), [onclick], [onerror]"


def test_no_name_becomes_an_element_or_runs(tmp_path: Path, windows: Windows) -> None:
    with served(hostile_hub(tmp_path / "hub")) as dashboard:
        with dashboard.ledger.engine.connect() as db:
            study, encoder = db.execute(sa.select(rounds.c.study, rounds.c.state)).first() or ("", "")
        window = windows(dashboard, "admin", name="ada")
        page = window.page
        page.add_init_script(VIOLATIONS + ALARMS)
        pages = {"/": True, f"/studies/{study}?round=3": True, "/sites": True, "/registry": True, "/audit": True}
        pages |= {f"/registry/{encoder}": False, "/people": True, "/new": False, "/audit?what=refused": True}
        for path, is_live in pages.items():
            window.goto(path)
            if is_live:
                window.live()
            if path in {"/audit", f"/studies/{study}?round=3"}:  # what comes while the page is open, too
                dashboard.ledger.note(Event(study, 3, SITE, "refused", f"now {MARKUP}"))
                expect(page.get_by_text("now '\"><xss").first).to_be_visible()
            assert page.locator(OURS).count() == 0, path
            assert page.evaluate("ran") == [], path
        window.goto("/sites")
        expect(page.get_by_role("row").filter(has_text="<xss onclick=x>").first).to_be_visible()  # it is shown as text
        page.get_by_role("row").filter(has_text="<xss").first.get_by_text("key, revoke").click()
        page.get_by_role("button", name="Revoke").first.click()
        page.context.close()
        assert [what for what in window.wrong if "status of 4" not in what] == []
