"""What every request passes: the hub's names, our own pages alone, small JSON, and the headers of every answer."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_server.dashboard.door import HEADERS, LARGEST_BODY
from polyward_server.dashboard.ways import local, sign_in_page
from tests.support.dashboard import Served

HTML = {"accept": "text/html"}
CHANGE = "/people/add"
SOMEBODY = {"name": "linus", "role": "viewer"}


def _people(dashboard: Served) -> set[str]:
    with dashboard.browser("admin", "ada") as client:
        return {row["name"] for row in client.get("/api/people").json()["rows"]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-token": ""}, 403),
        ({"x-token": "wrong"}, 403),
        ({"x-token": "\u00e9"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": ""}, 415),
    ],
)
def test_a_change_that_is_not_from_our_page_changes_nothing(
    dashboard: Served, headers: dict[str, str], status: int
) -> None:
    with dashboard.browser("admin", "ada") as client:
        sent = {**client.headers, "content-type": "application/json", **headers}
        raw = [(key.encode(), value.encode("latin-1")) for key, value in sent.items()]
        answer = client.post(CHANGE, content=b'{"name": "linus", "role": "viewer"}', headers=raw)
    assert answer.status_code == status
    assert "linus" not in _people(dashboard)


def test_a_change_that_says_nothing_of_where_it_is_from_changes_nothing(dashboard: Served) -> None:
    with dashboard.browser("admin", "ada") as client:
        del client.headers["origin"]
        assert client.post(CHANGE, json=SOMEBODY).status_code == 403
    assert "linus" not in _people(dashboard)


def test_the_token_of_another_session_is_wrong(dashboard: Served) -> None:
    with dashboard.browser("admin", "ada") as mine, dashboard.browser("admin", "ada") as other:
        assert mine.headers["x-token"] != other.headers["x-token"]
        mine.headers["x-token"] = other.headers["x-token"]
        assert mine.post(CHANGE, json=SOMEBODY).status_code == 403
    assert "linus" not in _people(dashboard)


def test_a_change_from_our_page_is_made(dashboard: Served) -> None:
    with dashboard.browser("admin", "ada") as client:
        del client.headers["origin"]
        answer = client.post(CHANGE, json={"name": "made", "role": "viewer"}, headers={"sec-fetch-site": "same-origin"})
        assert answer.status_code == 200
        assert "first password" in answer.json()["said"]
    assert "made" in _people(dashboard)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_not_taken(dashboard: Served, method: str) -> None:
    with dashboard.browser("admin", "ada") as client:
        assert client.request(method, CHANGE, content=b"{}").status_code == 405


def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length(dashboard: Served) -> None:
    large = b'{"name": "' + b"a" * LARGEST_BODY + b'"}'
    with dashboard.browser("admin", "ada") as client:
        client.headers["content-type"] = "application/json"
        assert client.post(CHANGE, content=large).status_code == 413
        assert client.post(CHANGE, content=iter([large[:600_000], large[600_000:]])).status_code == 413


@pytest.mark.parametrize("host", ["evil.example", "", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "local host"])
def test_another_name_is_not_answered(dashboard: Served, host: str) -> None:
    with dashboard.browser("admin", "ada") as client:
        answer = client.get("/", headers={"host": host, **HTML})
    assert answer.status_code == 400
    assert "ada" not in answer.text


def test_every_answer_bears_the_headers(dashboard: Served) -> None:
    with dashboard.browser("viewer") as client:
        for path in ("/", "/sign-in", "/api/studies", "/nothing", "/static/style.css", "/healthz", "/live/nothing"):
            answer = client.get(path, headers=HTML)
            assert {key: answer.headers[key] for key in HEADERS} == HEADERS, path
            assert "server" not in answer.headers
            kept = answer.headers.get("cache-control")
            assert (kept == "no-store") != path.startswith("/static/"), (path, kept)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecrets/ca.key",
        "/static//etc/passwd",
        "/static/%00",
        "/static/..\\app.py",
        "/static/",
        "/static",
    ],
)
def test_no_file_beside_the_static_ones_is_served(dashboard: Served, path: str) -> None:
    """Sent as it stands: a client would tidy it up."""
    answer = _raw(dashboard, f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 40", b"HTTP/1.1 303", b"HTTP/1.1 307")), answer[:200]
    assert b"import" not in answer
    assert b"root:" not in answer


def test_what_a_query_holds_does_not_become_a_header(dashboard: Served) -> None:
    wanted = "GET /?x=%0d%0aset-cookie:%20evil=1 HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/html\r\n"
    answer = _raw(dashboard, f"{wanted}connection: close\r\n\r\n")
    head = answer.split(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 303")
    assert b"\r\nset-cookie" not in head


def test_who_is_not_signed_in_is_shown_the_way_back(dashboard: Served) -> None:
    with dashboard.browser() as client:
        answer = client.get("/studies/abc?tab=2", headers=HTML)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/studies/abc%3Ftab%3D2")
        assert client.get("/studies/abc").status_code == 401
        assert client.get("/api/studies", headers=HTML).json() == {"detail": "sign in first"}


def test_a_link_from_elsewhere_is_followed_once_more_from_here(dashboard: Served) -> None:
    """A browser holds a strict cookie back when another site's page leads here."""
    with dashboard.browser() as client:
        answer = client.get('/studies/a?b="c', headers={**HTML, "sec-fetch-site": "cross-site"})
        assert answer.status_code == 200
        assert 'content="0;url=/studies/a?b=%22c"' in answer.text
        elsewhere = client.get("//evil.example/x", headers={**HTML, "sec-fetch-site": "cross-site"})
        assert "evil" not in elsewhere.text


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/a\r\nset-cookie: x",
        "/a\\..\\b",
        "/\u202e",
    ],
)
def test_only_our_own_addresses_are_gone_to(where: str) -> None:
    assert local(where) == "/"
    assert sign_in_page(where) == "/sign-in"


@given(st.text(max_size=40))
def test_whatever_stands_there_leads_nowhere_else(text: str) -> None:
    for where in (text, f"/{text}", f"//{text}", f"/\\{text}"):
        assert httpx.URL("https://hub.example").join(local(where)).host == "hub.example"


def test_our_own_addresses_stay() -> None:
    assert local("/studies/abc?x=1&y=%20#z") == "/studies/abc?x=1&y=%20#z"


def _raw(dashboard: Served, request: str) -> bytes:
    context = ssl.create_default_context(cafile=dashboard.hub.ca)
    with (
        socket.create_connection(("127.0.0.1", dashboard.hub.file.dashboard_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(request.encode())
        found = b""
        while part := secured.recv(65536):
            found += part
        return found
