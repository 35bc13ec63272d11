"""Encoders in a browser: one, two side by side, tags, releases, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyward_server.registry import Registry, read_encoder
from polyward_shared.releases import Release
from polyward_shared.states import write_state
from tests.support.dashboard import Served


@pytest.fixture
def two(dashboard: Served, tmp_path: Path) -> tuple[str, str]:
    """Digests of two imported encoders, the second twice the first in one of two arrays."""
    made = []
    for number in (1, 2):
        arrays = {"encoder.a": np.ones(3, np.float32), "encoder.b": number * np.ones(4, np.float32)}
        write_state(tmp_path / f"{number}.safetensors", arrays, {})
        made.append(Registry(dashboard.hub.registry).import_file(tmp_path / f"{number}.safetensors"))
    return made[0], made[1]


def test_one_encoder_by_digest_beginning_and_tag(dashboard: Served, two: tuple[str, str]) -> None:
    with dashboard.browser("coordinator", "ada") as page:
        for name in (two[0], two[0][:12]):
            assert two[0] in page.get(f"/registry/{name}").text
        assert page.post("/registry/tag", json={"state": two[0], "tag": "base"}).status_code == 200
        assert two[0] in page.get("/registry/base").text
        taken = page.post("/registry/tag", json={"state": two[1], "tag": "base"})
        assert taken.status_code == 409
        assert page.post("/registry/tag", json={"state": two[1], "tag": "base", "move": "on"}).status_code == 200
        assert page.get("/api/encoder?name=base").json()["row"]["state"] == two[1]
        assert page.post("/registry/untag", json={"tag": "base"}).status_code == 200
        assert page.get("/registry/base").status_code == 422
    kinds = [(each.event.what, each.event.actor) for each in dashboard.ledger.noted(last=3)]
    assert kinds == [("tagged", "ada"), ("tagged", "ada"), ("untagged", "ada")]


def test_two_encoders_side_by_side(dashboard: Served, two: tuple[str, str]) -> None:
    with dashboard.browser("viewer") as page:
        told = page.get(f"/api/comparison?a={two[0]}&b={two[1]}").json()["comparison"]
        shown = page.get(f"/registry/compare?a={two[0]}&b={two[1]}").text
        assert page.get(f"/registry/compare?a={two[0]}&b=nothing-like-it").status_code == 422
    assert [(each["name"], each["relative"], each["share"]) for each in told["arrays"]] == [
        ("encoder.b", 1.0, 1.0),
        ("encoder.a", 0.0, 0.0),
    ]
    assert "encoder.b" in shown


def test_the_file_holds_the_encoder_and_only_coordinators_get_it(
    dashboard: Served, two: tuple[str, str], tmp_path: Path
) -> None:
    with dashboard.browser("viewer") as page:
        assert page.get(f"/registry/{two[1]}/file").status_code == 403
    with dashboard.browser("coordinator") as page:
        (tmp_path / "got.safetensors").write_bytes(page.get(f"/registry/{two[1]}/file").content)
    schema, flat = read_encoder(tmp_path / "got.safetensors")
    assert schema.state_digest(flat) == two[1]
    assert flat.tolist() == [1, 1, 1, 2, 2, 2, 2]


def test_a_release_is_signed_by_admins_alone(dashboard: Served, two: tuple[str, str]) -> None:
    wanted = {"state": two[0], "name": "first-1.0", "notes": "<b>", "sites": "on"}
    with dashboard.browser("coordinator") as page:
        assert page.post("/registry/release", json=wanted).status_code == 403
    with dashboard.browser("admin", "grace") as page:
        assert page.post("/registry/release", json=wanted).status_code == 200
        assert page.post("/registry/release", json=wanted).status_code == 409
        signed = Release.model_validate_json(page.get("/registry/releases/first-1.0").content)
        assert "first-1.0" in page.get(f"/registry/{two[0]}").text
    assert (signed.statement.encoder, signed.statement.notes) == (two[0], "<b>")
    assert dashboard.ledger.noted(last=1)[0].event.actor == "grace"


def test_a_round_shows_its_sites_with_weights(dashboard: Served) -> None:
    with dashboard.browser("viewer") as page:
        rows = page.get("/api/encoders").json()["rows"]
        [newest] = [row for row in rows if row["newest"]]
        shown = page.get(f"/registry/{newest['state']}").text
    assert newest["round"] == 12
    for site in ("bergen", "leiden", "porto"):
        assert f'<th scope="row">{site}</th>' in shown
    assert "seed 0" in shown
