"""Signing in at an OpenID provider: the way that works, and every way in which its answer must not be believed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from polyward_server.dashboard.oidc import MOST_ASKED, MOST_ASKED_OF_ADDRESS, NotVouched
from polyward_server.dashboard.oidc import Provider as RelyingProvider
from polyward_server.hub import Hub
from polyward_server.hub_file import OpenId
from polyward_server.people import users
from polyward_shared import pki
from tests.support.dashboard import Served, served
from tests.support.oidc_provider import CLIENT, SECRET, Provider, oidc_provider
from tests.support.signed_in import COOKIE
from tests.support.story import tell

GOOD = {"preferred_username": "Vera", "groups": ["staff", "polyward-coordinators", "polyward-viewers"]}


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Provider]]:
    """A dashboard whose hub.toml names a provider, and the provider."""
    folder = tmp_path_factory.mktemp("oidc")
    with oidc_provider(folder) as provider:
        hub = tell(folder / "hub", rounds=1)
        section = f"""
[oidc]
issuer = "{provider.issuer}"
client_id = "{CLIENT}"
authority = "{provider.ca}"
[oidc.roles]
polyward-coordinators = "coordinator"
polyward-viewers = "viewer"
"""
        with (hub.folder / "hub.toml").open("a") as file:
            file.write(section)
        pki.write_secret(hub.folder / "secrets" / "oidc", SECRET.encode())
        with served(Hub(hub.folder)) as running:
            yield running, provider


@pytest.fixture(autouse=True)
def _well_behaved(federated: tuple[Served, Provider]) -> None:
    _, provider = federated
    provider.claims, provider.changed, provider.algorithm = dict(GOOD), {}, "RS256"


def _come_back(client: httpx.Client, provider: Provider) -> httpx.Response:
    there = client.get("/sign-in/provider", params={"next": "/sites"})
    assert there.status_code == 303
    return client.get(provider.sign_in(there.headers["location"]), headers={"accept": "text/html"})


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_somebody_with_a_role_is_let_in(federated: tuple[Served, Provider], algorithm: str) -> None:
    dashboard, provider = federated
    provider.algorithm = algorithm
    with dashboard.browser() as client:
        assert "Sign in at your organisation" in client.get("/sign-in").text
        answer = _come_back(client, provider)
        assert answer.status_code == 200
        assert 'content="0;url=/sites"' in answer.text
        cookies = answer.headers.get_list("set-cookie")
        assert any(each.startswith(f"{COOKIE}=") and "SameSite=strict" in each for each in cookies)
        account = client.get("/account", headers={"accept": "text/html"}).text
        assert "coordinator" in account
        assert "at your organisation" in account
    with dashboard.ledger.engine.connect() as db:
        vera = users.named(db, "vera")
    assert (vera.role, len(vera.subject)) == ("coordinator", 64)


def test_a_state_is_good_once_and_in_one_browser(federated: tuple[Served, Provider]) -> None:
    dashboard, provider = federated
    with dashboard.browser() as client, dashboard.browser() as other:
        there = client.get("/sign-in/provider").headers["location"]
        back = provider.sign_in(there)
        assert other.get(back).status_code == 403  # an attacker's link: another browser began
        assert client.get(back).status_code == 403  # which has used it up
        back = provider.sign_in(client.get("/sign-in/provider").headers["location"])
        cookies = dict(client.cookies)
        assert client.get(back).status_code == 200
        client.cookies.clear()
        client.cookies.update(cookies)
        assert client.get(back).status_code == 403
        for query in ("", "?state=x&code=y", "?error=access_denied&error_description=<script>"):
            answer = client.get(f"/sign-in/back{query}", headers={"accept": "text/html"})
            assert answer.status_code == 403
            assert "<script>alert" not in answer.text
            assert "begin again" in answer.text


def test_who_asks_without_end_pushes_out_their_own_questions_alone(
    federated: tuple[Served, Provider], tmp_path: Path
) -> None:
    dashboard, _ = federated
    assert dashboard.hub.file.oidc is not None
    asking = RelyingProvider(dashboard.hub.file.oidc, tmp_path / "secret")
    asking.ask("https://hub/sign-in/back", "/", "somebody")
    for _ in range(2 * MOST_ASKED):
        asking.ask("https://hub/sign-in/back", "/", "a flood")
    addresses = [each.address for each in asking._asked.values()]
    assert (addresses.count("somebody"), addresses.count("a flood")) == (1, MOST_ASKED_OF_ADDRESS)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "foreign", "RS512", "PS256"])
def test_a_token_that_is_not_signed_as_it_must_be(federated: tuple[Served, Provider], algorithm: str) -> None:
    dashboard, provider = federated
    provider.algorithm = algorithm
    _is_refused(dashboard, provider, "signed")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"nonce": "another"}, "another question"),
        ({"nonce": None}, "not for this hub"),
        ({"aud": "another-program"}, "not for this hub"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "another program"),
        ({"iss": "https://evil.example"}, "not for this hub"),
        ({"exp": int(time.time()) - 3600}, "too old"),
        ({"exp": None}, "too old"),
        ({"iat": int(time.time()) + 3600}, "too old"),
        ({"sub": None}, "not for this hub"),
        ({"groups": ["staff"]}, "no role"),
        ({"groups": None}, "no role"),
        ({"groups": "polyward-coordinators-not"}, "no role"),
        ({"groups": {"polyward-coordinators": True}}, "no role"),
        ({"preferred_username": None}, "does not tell your name"),
        ({"preferred_username": ["vera"]}, "does not tell your name"),
        ({"preferred_username": "<b>vera"}, "the name or role that the provider tells"),
        ({"preferred_username": "vera", "sub": "somebody else"}, "has this name already"),
    ],
)
def test_a_statement_that_is_not_to_be_believed(
    federated: tuple[Served, Provider], changed: dict[str, Any], why: str
) -> None:
    dashboard, provider = federated
    with dashboard.browser() as client:
        _come_back(client, provider)  # so that vera is known
    provider.changed = changed
    _is_refused(dashboard, provider, why)


def test_who_was_disabled_here_stays_out(federated: tuple[Served, Provider]) -> None:
    dashboard, provider = federated
    with dashboard.browser() as client:
        _come_back(client, provider)
    with dashboard.ledger.engine.begin() as db:
        users.disable(db, "vera", actor="test")
    _is_refused(dashboard, provider, "may not sign in")
    with dashboard.ledger.engine.begin() as db:
        users.enable(db, "vera", actor="test")


def test_a_code_of_another_sign_in_is_worth_nothing(federated: tuple[Served, Provider]) -> None:
    """The code was asked for with another verifier (PKCE)."""
    dashboard, provider = federated
    with dashboard.browser() as client, dashboard.browser() as other:
        stolen = provider.sign_in(other.get("/sign-in/provider").headers["location"])
        mine = provider.sign_in(client.get("/sign-in/provider").headers["location"])
        code = stolen.partition("code=")[2].partition("&")[0]
        state = mine.partition("state=")[2]
        assert client.get("/sign-in/back", params={"code": code, "state": state}).status_code == 403


def _is_refused(dashboard: Served, provider: Provider, why: str) -> None:
    with dashboard.browser() as client:
        answer = _come_back(client, provider)
        assert answer.status_code == 403
        assert why in answer.text
        assert COOKIE not in client.cookies
        assert "<b>vera" not in answer.text


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "http://127.0.0.1/authorize"},
        {"authorization_endpoint": None},
    ],
)
def test_a_provider_that_describes_itself_wrongly_is_not_gone_to(tmp_path: Path, document: dict[str, object]) -> None:
    with oidc_provider(tmp_path) as other:
        other.document = document
        file = OpenId(issuer=other.issuer, client_id=CLIENT, roles={"x": "viewer"}, authority=other.ca)
        with pytest.raises(NotVouched):
            RelyingProvider(file, tmp_path / "secret").ask("https://hub/sign-in/back", "/", "")


def test_a_provider_that_is_away_or_not_trusted_is_told_in_words(tmp_path: Path) -> None:
    with oidc_provider(tmp_path) as other:
        stranger = OpenId(issuer=other.issuer, client_id=CLIENT, roles={"x": "viewer"})
        with pytest.raises(NotVouched, match="does not answer"):
            RelyingProvider(stranger, tmp_path / "secret").ask("https://hub/sign-in/back", "/", "")


@pytest.mark.parametrize("issuer", ["http://login.example", "login.example", "https://login.example?x=1"])
def test_only_an_issuer_over_tls_can_be_named(issuer: str) -> None:
    with pytest.raises(ValidationError):
        OpenId(issuer=issuer, client_id=CLIENT, roles={"x": "viewer"})
