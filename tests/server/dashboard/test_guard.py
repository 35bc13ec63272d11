"""Who may reach which route: every route there is, asked by everybody there is."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from polyward_server.dashboard.app import create_app
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import OPEN, Coordinator, Viewer, needed
from polyward_server.people.users import ROLES
from tests.support.dashboard import Served
from tests.support.story import tell


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str | None]:
    """Method and path of every route, with the role that it names."""
    desk = Desk.of(tell(tmp_path_factory.mktemp("routes") / "hub", rounds=1))
    try:
        return dict(needed(create_app(desk)))
    finally:
        desk.ledger.close()


def test_every_route_names_a_role_or_is_one_of_few(routes: dict[tuple[str, str], str | None]) -> None:
    assert {path for (_, path), role in routes.items() if role is None} <= OPEN
    assert {method for method, _ in routes} <= {"GET", "POST"}


def test_changing_routes_need_more_than_a_viewer(routes: dict[tuple[str, str], str | None]) -> None:
    of_viewers = {path for (method, path), role in routes.items() if method == "POST" and role == "viewer"}
    assert of_viewers <= {"/sign-out", "/account/password", "/account/sign-out", "/audit/verify"}


@pytest.mark.parametrize("who", ["", *ROLES])
def test_nobody_reaches_what_needs_more(dashboard: Served, routes: dict[tuple[str, str], str | None], who: str) -> None:
    ranks: list[str] = ["", *ROLES]
    for (method, path), needs in routes.items():
        if path in {"/sign-out", "/account/sign-out"} or path.startswith("/live/"):
            continue  # they end this very test's session; streams have tests of their own
        with dashboard.browser(who) as client:
            answer = _ask(client, method, re.sub(r"\{[^}]+\}", "nothing", path))
        if needs is not None and not who:
            assert answer.status_code == 401, (method, path, answer.status_code)
        elif needs is not None and ranks.index(who) < ranks.index(needs):
            assert answer.status_code in {403, 422}, (method, path, answer.status_code)  # 422: before it is looked at
            if answer.status_code == 403:
                assert "role" in answer.json()["detail"]
        else:
            refused_for_role = answer.status_code == 403 and "role" in answer.text
            assert answer.status_code != 500, (method, path, answer.text)
            assert not refused_for_role or path == "/sign-in", (method, path)


def test_a_route_without_a_role_keeps_the_dashboard_from_starting() -> None:
    app, router = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), APIRouter(prefix="/sites")

    @router.post("/forgotten")
    def forgotten() -> None: ...

    app.include_router(router)
    with pytest.raises(RuntimeError, match="/sites/forgotten names no role"):
        needed(app)


def test_a_mounted_application_counts_as_forgotten() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/elsewhere", FastAPI())
    with pytest.raises(RuntimeError, match="/elsewhere names no role"):
        needed(app)


def test_of_two_roles_the_higher_counts() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/both")
    def both(_: Viewer, __: Coordinator) -> None: ...

    assert needed(app) == {("GET", "/both"): "coordinator"}


def test_a_page_for_admins_streams_to_admins_alone(dashboard: Served) -> None:
    for role, status in [("viewer", 403), ("coordinator", 403), ("admin", 200)]:
        with dashboard.browser(role) as client, client.stream("GET", "/live/people") as answer:
            assert answer.status_code == status


def test_people_are_told_to_admins_alone(dashboard: Served) -> None:
    for path in ("/api/people", "/api/people.csv", "/api/sessions", "/people"):
        with dashboard.browser("coordinator") as client:
            assert client.get(path).status_code == 403
    with dashboard.browser("admin", "ada") as client:
        assert any(row["name"] == "ada" for row in client.get("/api/people").json()["rows"])


def test_this_module_knows_the_open_routes() -> None:
    """The list is short, and whoever makes it longer changes this line too."""
    known = {"/sign-in", "/sign-in/provider", "/sign-in/back", "/healthz", "/metrics"}
    assert known == OPEN


def _ask(client: httpx.Client, method: str, path: str) -> httpx.Response:
    return client.get(path) if method == "GET" else client.post(path, json={})
