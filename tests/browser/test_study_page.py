"""The study page in a real browser: it moves by itself, keeps what people do, and asks nobody else for anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Window
from tests.support.dashboard import Served, served
from tests.support.real_hub import until
from tests.support.story import story_study, tell

pytestmark = pytest.mark.slow
DIGEST = story_study().digest()
ROOT = Path(__file__).parents[2]
COMMIT = """
import sys
import numpy as np
from pathlib import Path
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from tests.support.story import SITES, one_round
ledger = Ledger(Hub(Path(sys.argv[1])).ledger)
one_round(ledger, sys.argv[2], int(sys.argv[3]), SITES, np.random.default_rng(3))
"""
INK = """(canvas) => {
  const copy = document.createElement("canvas");
  Object.assign(copy, { width: canvas.width, height: canvas.height });
  const drawn = copy.getContext("2d", { willReadFrequently: true });
  drawn.drawImage(canvas, 0, 0);
  const pixels = drawn.getImageData(0, 0, copy.width, copy.height).data;
  let inked = 0;
  for (let i = 3; i < pixels.length; i += 4) inked += pixels[i] > 0;
  return inked;
}"""
CONTROLS = "main a[href], main button, main select, main input, main summary, main [tabindex='0']"
TABBABLE = f"""() => [...document.querySelectorAll("{CONTROLS}")].filter((each) => each.checkVisibility()).length"""

Windows = Callable[..., Window]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Served]:
    with served(tell(tmp_path / "hub")) as running:
        yield running


def commits(hub: Served, number: int) -> None:
    """Another process, as the runner is one."""
    command = [sys.executable, "-c", COMMIT, str(hub.hub.folder), DIGEST, str(number)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=60)


def head(page: Page) -> str:
    return page.inner_text('[data-panel="head"]')


def newest(page: Page) -> int:
    """The last round of a chart."""
    return int(page.evaluate("JSON.parse(document.getElementById('curve-grade').dataset.chart).x.at(-1)"))


def test_a_round_of_another_process_appears_without_reload(hub: Served, windows: Windows) -> None:
    window = windows(hub, "viewer")
    page = window.page
    window.goto(f"/studies/{DIGEST}")
    window.live()
    assert "round 12 of 24" in head(page)
    canvas = page.locator("#curve-grade canvas")
    before = canvas.evaluate(INK)
    assert before > 1000
    canvas.evaluate("(canvas) => { canvas.sameAsBefore = true }")
    commits(hub, 13)
    until(lambda: "round 13 of 24" in head(page))
    until(lambda: newest(page) == 13)
    canvas = page.locator("#curve-grade canvas")
    assert canvas.evaluate("(canvas) => canvas.sameAsBefore") is True  # drawn anew in place: nothing flickers
    assert canvas.evaluate(INK) > 1000
    page.wait_for_selector("#timeline-13")
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
    assert window.wrong == []


def test_what_a_person_is_choosing_stays_when_the_panel_is_refreshed(hub: Served, windows: Windows) -> None:
    window = windows(hub, "viewer")
    page = window.page
    window.goto(f"/studies/{DIGEST}")
    window.live()
    page.select_option("#curves-stage", "alone")
    page.locator("#curves-stage").focus()
    page.locator("#curve-table-grade summary").click()
    page.locator("#curves-stage").focus()
    commits(hub, 13)
    until(lambda: newest(page) == 13)
    assert page.input_value("#curves-stage") == "alone"
    assert page.evaluate("document.activeElement.id") == "curves-stage"
    assert page.locator("#curve-table-grade").evaluate("(each) => each.open") is True
    page.click("form.choose button")
    page.wait_for_url("**stage=alone**")
    window.live()
    assert "alone" in page.inner_text("#curves figcaption >> nth=0")
    commits(hub, 14)  # the stream knows what the address chose
    until(lambda: newest(page) == 14)
    assert "alone" in page.inner_text("#curves figcaption >> nth=0")
    assert window.wrong == []


def test_a_coordinator_pauses_and_resumes_and_sees_it_happen(hub: Served, windows: Windows) -> None:
    window = windows(hub, "coordinator", name="ada")
    page = window.page
    window.goto(f"/studies/{DIGEST}")
    window.live()
    page.click("text=Pause after this round")
    page.wait_for_selector('[data-panel="head"] .state.paused')
    page.click("[data-panel=head] >> text=Resume")
    page.wait_for_selector('[data-panel="head"] .state.resuming')
    until(lambda: "ada" in page.inner_text('[data-panel="tail"]'))
    assert window.wrong == []


def test_every_control_is_reached_by_the_keyboard(hub: Served, windows: Windows) -> None:
    window = windows(hub, "coordinator")
    page = window.page
    window.goto(f"/studies/{DIGEST}")
    window.live()
    page.evaluate("window.reached = new Set(); document.addEventListener('focusin', (e) => reached.add(e.target))")
    wanted = page.evaluate(TABBABLE)
    assert wanted > 40
    page.focus("#main")
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
    missed = page.evaluate(
        f"""() => [...document.querySelectorAll("{CONTROLS}")]
            .filter((each) => each.checkVisibility() && !reached.has(each)).map((each) => each.outerHTML)"""
    )
    assert missed == []
    assert window.wrong == []


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_it_is_read_on_a_phone_and_in_the_dark(hub: Served, windows: Windows, width: int, dark: bool) -> None:
    window = windows(hub, "viewer", width=width, dark=dark)
    page = window.page
    window.goto(f"/studies/{DIGEST}?round=12")
    window.live()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    unnamed = page.evaluate(
        "[...document.querySelectorAll('.chart, [role=region], svg[role=img]')]"
        ".filter((each) => !each.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    # in one step, as news may put a new bar in this one's place at any moment
    bar = """document.querySelector('[aria-label^="bergen: fetching"] rect.training')"""
    assert page.evaluate(f"{bar}.getBoundingClientRect().width") > 20
    assert window.wrong == []
