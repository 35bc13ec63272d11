"""The study page over TLS: its panels, their twins, what an address may choose, and what each role is offered."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from polyward_server.dashboard.panels import STUDY_PANELS
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from tests.support.dashboard import Served
from tests.support.story import story_study

DIGEST = story_study().digest()


class Page(HTMLParser):
    """What the tests ask of a page: ids, links, buttons, and attributes that the policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.posts: set[str] = set()
        self.forbidden: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if given.get("data-post"):
            self.posts.add(str(given["data-post"]).rpartition("/")[2])
        self.forbidden += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        self.forbidden += ["inline script"] if tag == "script" and not given.get("src") else []


def test_it_is_found_by_its_digest_or_how_that_begins(dashboard: Served) -> None:
    with dashboard.browser("viewer") as page:
        for name in (DIGEST, DIGEST[:8]):
            assert "breast-demo" in page.get(f"/studies/{name}").text
        for name in ("0" * 64, DIGEST[:3], "%25%25%25%25%25%25"):
            assert page.get(f"/studies/{name}").status_code == 404
            assert page.get(f"/api/studies/{name}/matrix").status_code == 404


def test_every_panel_is_on_the_page_once_and_obeys_the_policy(dashboard: Served) -> None:
    with dashboard.browser("viewer") as page:
        shown = Page(page.get(f"/studies/{DIGEST}").text)
    assert {panel.name for panel in STUDY_PANELS} <= set(shown.ids)
    assert len(shown.ids) == len(set(shown.ids))
    assert shown.forbidden == []


@pytest.mark.parametrize("panel", [panel.name for panel in STUDY_PANELS])
def test_every_panel_has_twins_for_programs(dashboard: Served, panel: str) -> None:
    choice = {"round": "12"} if panel == "timeline" else {}  # nobody has ended a phase of the open one
    with dashboard.browser("viewer") as page:
        told = page.get(f"/api/studies/{DIGEST}/{panel}", params=choice)
        table = page.get(f"/api/studies/{DIGEST}/{panel}.csv", params=choice)
    assert (told.status_code, table.status_code) == (200, 200)
    assert list(csv.DictReader(io.StringIO(table.text)))


def test_twins_of_curves_and_rounds_choose_as_the_page_does(dashboard: Served) -> None:
    with dashboard.browser("viewer") as page:
        curves = f"/api/studies/{DIGEST}/curves"
        alone = page.get(curves, params={"task": "size", "stage": "alone"}).json()
        assert {curve["task"] for curve in alone["curves"]} == {"size"}
        assert alone["curves"][0]["stage"] == "alone"
        rows = list(csv.DictReader(io.StringIO(page.get(f"{curves}.csv", params={"task": "size"}).text)))
        assert {(row["task"], row["metric"]) for row in rows} == {("size", "mae")}
        assert page.get(f"/api/studies/{DIGEST}/timeline", params={"round": "9"}).json()["round"] == 9
        for wrong in ({"task": "moon"}, {"stage": "x"}):
            refused = page.get(curves, params=wrong)
            assert refused.status_code == 422
            assert "expected one of" in refused.json()["detail"]
        assert page.get(f"/studies/{DIGEST}", params={"round": "99"}).status_code == 422
        document = page.get("/openapi.json").json()["paths"]["/api/studies/{study}/curves"]["get"]
        assert {each["name"] for each in document["parameters"]} >= {"task", "metric", "split", "stage"}


@pytest.mark.parametrize(("role", "posts"), [("viewer", set()), ("coordinator", {"pause", "stop"})])
def test_only_who_may_change_a_study_is_offered_to(dashboard: Served, role: str, posts: set[str]) -> None:
    with dashboard.browser(role) as page:
        assert Page(page.get(f"/studies/{DIGEST}").text).posts - {"sign-out"} == posts


def test_nothing_of_a_site_becomes_part_of_the_page(dashboard: Served) -> None:
    ledger = Ledger(dashboard.hub.ledger)
    ledger.note(Event(DIGEST, 13, "leiden", "refused", "<script>alert(1)</script>' onload='x"))
    ledger.close()
    with dashboard.browser("coordinator") as page:
        text = page.get(f"/studies/{DIGEST}").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert Page(text).forbidden == []


def test_a_panel_that_says_the_same_is_the_same_html(dashboard: Served) -> None:
    with dashboard.browser("viewer") as page:
        first, second = (page.get(f"/studies/{DIGEST}").text for _ in range(2))
    assert first == second
    assert not re.search(r"\d+ (s|min|h) ago", first)
