"""Writing a new study in a browser: the preview by hand, drafts, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyward_server.records import State
from polyward_server.registry import Registry
from polyward_server.views.proposal import read_proposal
from polyward_shared.study import read_study
from tests.support.dashboard import Served
from tests.support.story import story_study

FORM: dict[str, Any] = {
    "entries": {"id": "lung", "rounds": "24", "image.size": "8, 8", "encoder.filters": "4", "encoder.blocks": "1, 1"},
    "encoder": "segres",
    "tasks": [{"name": "mask", "kind": "segmentation", "entries": {}}],
    "rest": "",
}


def test_the_preview_tells_bytes_of_an_encoder_that_sites_have_built(dashboard: Served) -> None:
    with dashboard.browser("coordinator") as page:
        told = page.post("/new/check", json=FORM).json()
    assert told["mistakes"] == []
    [row] = told["proposal"]["rows"]
    assert (row["group"], row["arrays"], row["values"]) == ("encoder", 2, 8 * 1 * 3 * 3 + 8)
    assert (row["bytes_round"], row["bytes_study"]) == (80 * 4, 80 * 4 * 24)
    assert told["proposal"]["known_from"] == "as in the study breast-demo"
    assert "images, masks and labels" in told["proposal"]["never"]
    assert "its branches" in told["proposal"]["never"]
    assert told["proposal"]["figures"][0]["names"][0] == "dice"
    assert "320 B" in told["html"]


def test_half_the_bytes_and_branches_that_cross(dashboard: Served) -> None:
    entries = {**FORM["entries"], "wire.codec": "bfloat16", "sharing.branches": "task"}
    with dashboard.browser("coordinator") as page:
        told = page.post("/new/check", json={**FORM, "entries": entries}).json()["proposal"]
    assert [(row["group"], row["bytes_round"]) for row in told["rows"]] == [("encoder", 160), ("branches.mask", None)]
    assert "its branches" not in told["never"]


def test_an_encoder_that_nobody_has_built_is_not_known(dashboard: Served) -> None:
    entries = {**FORM["entries"], "encoder.filters": "8"}
    with dashboard.browser("coordinator") as page:
        told = page.post("/new/check", json={**FORM, "entries": entries}).json()
    assert (told["proposal"]["known_from"], told["proposal"]["rows"][0]["bytes_round"]) == ("", None)
    assert "known once the first one joins" in told["html"]


def test_of_a_registered_encoder_no_site_sends_the_first_state(dashboard: Served) -> None:
    with dashboard.browser("coordinator") as page:
        seed = page.post("/new/check", json=FORM).json()
        entries = {**FORM["entries"], "encoder.start": 64 * "a"}
        registered = page.post("/new/check", json={**FORM, "entries": entries}).json()
    assert (seed["proposal"]["first"], registered["proposal"]["first"]) == (["encoder"], [])
    assert "made from the seed" in seed["html"]
    assert "made from the seed" not in registered["html"]


def test_a_draft_is_kept_once_and_its_file_is_the_same_study(dashboard: Served, tmp_path: Path) -> None:
    with dashboard.browser("coordinator", "ada") as page:
        where = page.post("/new/draft", json=FORM).json()["go"]
        digest = where.removeprefix("/new/")
        shown = page.get(where).text
        file = page.get(f"/studies/{digest}/study.toml")
        again = page.post("/new/draft", json=FORM)
    assert dashboard.ledger.study_state(digest)[0] == State.DRAFT
    assert dashboard.ledger.noted(study=digest)[-1].event.actor == "ada"
    assert digest in shown
    assert "polyward-node approve" in shown
    (tmp_path / "study.toml").write_bytes(file.content)
    assert read_study(tmp_path / "study.toml").digest() == digest
    assert again.status_code == 409
    assert "is here already, and draft" in again.json()["detail"]


def test_a_study_is_queued_at_once(dashboard: Served) -> None:
    form = {**FORM, "entries": {**FORM["entries"], "id": "queued-at-once"}}
    with dashboard.browser("coordinator", "ada") as page:
        digest = page.post("/new/queue", json=form).json()["go"].removeprefix("/new/")
    assert dashboard.ledger.study_state(digest)[0] == State.QUEUED


def test_mistakes_keep_nothing(dashboard: Served) -> None:
    before = len(dashboard.ledger.noted())
    form = {**FORM, "entries": {**FORM["entries"], "rounds": "-1"}}
    with dashboard.browser("coordinator") as page:
        told = page.post("/new/check", json=form).json()
        assert [each["key"] for each in told["mistakes"]] == ["rounds"]
        assert told["proposal"] is None
        for path in ("/new/draft", "/new/queue"):
            refused = page.post(path, json=form)
            assert refused.status_code == 422
            assert "rounds" in refused.json()["detail"]
    assert len(dashboard.ledger.noted()) == before


def test_a_study_toml_fills_the_form(dashboard: Served) -> None:
    text = 'id = "x"\nrounds = 2\n[image]\nsize = [8, 8]\n[tasks.mask]\nkind = "segmentation"\n'
    with dashboard.browser("coordinator") as page:
        form = page.post("/new/read", json={"text": text}).json()
        assert (form["entries"]["rounds"], form["tasks"][0]["name"], form["rest"]) == ("2", "mask", "")
        assert page.post("/new/check", json=form).json()["mistakes"] == []
        broken = page.post("/new/read", json={"text": "id ="})
    assert broken.status_code == 422
    assert "not valid TOML" in broken.json()["detail"]


@pytest.mark.parametrize(
    "form",
    [
        {"entries": {"id": 7}},
        {"entries": "x"},
        {"entries": {"id": "x" * 20_000}},
        {"tasks": [{"name": "a", "kind": "binary", "entries": {}, "more": 1}]},
        {"tasks": [{"name": "a"}] * 300},
        {"rest": "x" * 300_000},
        {"encoder": None},
        [],
    ],
)
def test_what_is_no_form_is_refused(dashboard: Served, form: object) -> None:
    with dashboard.browser("coordinator") as page:
        for path in ("/new/check", "/new/draft", "/new/queue"):
            assert page.post(path, json=form).status_code == 422


def test_viewers_write_nothing_and_may_read_what_leaves(dashboard: Served) -> None:
    digest = story_study().digest()
    with dashboard.browser("viewer") as page:
        assert page.get("/new").status_code == 403
        assert page.post("/new/draft", json=FORM).status_code == 403
        told = page.get(f"/api/studies/{digest}/proposal").json()
    assert told == read_proposal(dashboard.ledger, Registry(dashboard.hub.registry), story_study()).model_dump(
        mode="json"
    )
