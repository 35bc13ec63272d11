"""A new study is written by keyboard alone, with its preview, its mistakes and its draft."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from polyward_server.records import State
from polyward_shared.study import read_study
from tests.browser.opened import Windows, opened
from tests.support.dashboard import Served, served
from tests.support.story import tell

pytestmark = pytest.mark.slow

FEW_KEYS = 200


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tell(tmp_path_factory.mktemp("hub") / "hub")) as running:
        yield running


def go_to(page: Page, what: str) -> None:
    """Presses Tab until the element that the selector names has the focus."""
    for _ in range(FEW_KEYS):
        if page.evaluate("selector => document.activeElement.matches(selector)", what):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no way to {what} by the Tab key")


def test_by_keyboard_alone(dashboard: Served, windows: Windows, tmp_path: Path) -> None:
    with opened(windows, dashboard) as page:
        page.goto(dashboard.url)
        go_to(page, "a[href='/new']")
        page.keyboard.press("Enter")
        page.wait_for_url("**/new")
        for field, text in (("#f-id", "lung"), ("#f-rounds", "24"), ("#f-image-size", "8, 8")):
            go_to(page, field)
            page.keyboard.type(text)
        go_to(page, "#e-segres-encoder-filters")
        page.keyboard.press("Control+A")
        page.keyboard.type("4")
        go_to(page, "#e-segres-encoder-blocks")
        page.keyboard.press("Control+A")
        page.keyboard.type("1, 1")
        go_to(page, "#task-1-name")
        page.keyboard.type("Mask")
        mistake = page.locator("#tasks .mistake")
        expect(mistake).to_contain_text("expected a task name of small letters")
        page.keyboard.press("Control+A")
        page.keyboard.type("mask")
        expect(mistake).to_have_count(0)
        expect(page.locator("#preview")).to_contain_text("320 B")
        go_to(page, "#add-task")
        page.keyboard.press("Enter")
        page.keyboard.type("grade")
        go_to(page, "#task-2-kind")
        page.keyboard.type("multic")
        go_to(page, "#task-2-classes")
        page.keyboard.type("benign, malignant")
        expect(page.locator("#preview")).to_contain_text("balanced_accuracy")
        go_to(page, "#save-draft")
        page.keyboard.press("Enter")
        page.wait_for_url("**/new/*")
        expect(page.get_by_role("heading", level=1)).to_have_text("lung")
        with page.expect_download() as started:
            page.get_by_role("link", name="Download study.toml").press("Enter")
        started.value.save_as(tmp_path / "study.toml")
        digest = page.url.rpartition("/")[2]
    study = read_study(tmp_path / "study.toml")
    assert study.digest() == digest
    assert study.tasks["grade"].kind == "multiclass"
    assert dashboard.ledger.study_state(digest)[0] == State.DRAFT


def test_a_study_toml_fills_the_form(dashboard: Served, windows: Windows, tmp_path: Path) -> None:
    text = (
        'id = "pasted"\nrounds = 7\n[image]\nsize = [64, 64]\n[encoder]\nkind = "resnet"\n[tasks.mask]\n'
        'kind = "segmentation"\nclasses = ["a"]\n[tasks.age]\nkind = "regression"\nside = ["sex"]\n'
        '[side.sex]\nkind = "category"\nclasses = ["f", "m"]\n'
    )
    (tmp_path / "study.toml").write_text(text)
    with opened(windows, dashboard) as page:
        page.goto(f"{dashboard.url}/new")
        page.locator("#upload").set_input_files(tmp_path / "study.toml")
        expect(page.locator("#pasted")).to_have_value(text)
        page.get_by_role("button", name="Fill the form").click()
        expect(page.locator("#f-rounds")).to_have_value("7")
        expect(page.locator("#encoder-kind")).to_have_value("resnet")
        expect(page.locator("#e-segres-encoder-filters")).to_be_hidden()
        expect(page.locator("[data-name]")).to_have_count(2)
        expect(page.locator("#rest")).to_have_value(
            '[side.sex]\nkind = "category"\nclasses = [\n    "f",\n    "m",\n]\n'
        )
        page.get_by_role("button", name="Queue it now").click()
        page.wait_for_url("**/new/*")
        digest = page.url.rpartition("/")[2]
    assert digest == read_study(tmp_path / "study.toml").digest()


def test_a_try_to_save_leads_to_what_is_missing(dashboard: Served, windows: Windows) -> None:
    with opened(windows, dashboard, width=390) as page:
        page.goto(f"{dashboard.url}/new")
        expect(page.locator("#mistakes")).to_contain_text("id: is missing")
        expect(page.locator(".mistake")).to_have_count(0)  # nobody has written anything wrong yet
        page.get_by_role("button", name="Save as draft").click()
        expect(page.locator("#f-id")).to_be_focused()
        expect(page.locator("#f-id")).to_have_attribute("aria-invalid", "true")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
