"""What every request passes before any route, and every answer after it.

Here, in one place: the hub's names, who asks, that a change comes from our own page with the session's token and is
small JSON, and the headers of every answer. A route cannot forget what it never has to do.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Collection
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import COOKIE, STATIC, Person, is_open
from polyward_server.dashboard.refusals import refusal, wants_page
from polyward_server.dashboard.ways import local, sign_in_page
from polyward_server.hub import Hub
from polyward_server.people.sessions import Session, find
from polyward_server.people.users import Role
from polyward_shared import pki

log = logging.getLogger(__name__)

LARGEST_BODY = 1_000_000  # bytes
BODY_SECONDS = 20.0  # for all of it
METHODS = {"GET", "HEAD", "POST"}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "strict-transport-security": "max-age=31536000",
}


class Refusing(Exception):
    """The request gets no further; what its sender is told."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        self.sentence = sentence


class Door:
    """The middleware. `hosts` are the names that this hub answers to, without ports."""

    def __init__(self, app: ASGIApp, desk: Desk, hosts: Collection[str]) -> None:
        self._app = app
        self._desk = desk
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, began_to_answer = time.monotonic(), False
        request = Request(scope, receive)
        request.state.person = None

        async def answer(message: Message) -> None:
            nonlocal began_to_answer
            if message["type"] == "http.response.start":
                began_to_answer = True
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if not scope["path"].startswith(f"{STATIC}/"):
                    headers["cache-control"] = "no-store"
                _log(request, message["status"], time.monotonic() - began)
            await send(message)

        try:
            response = await self._stopped(request)
            body = await _body(request) if response is None and request.method == "POST" else None
        except Refusing as refused:
            response, body = refusal(request, refused.status, refused.sentence), None
        if response is not None:
            await response(scope, receive, answer)
            return
        try:
            await self._app(scope, receive if body is None else _again(body, receive), answer)
        except Exception:  # a defect of ours: told here, for the framework would answer past this door
            if began_to_answer:
                raise
            log.exception("%s %s broke", request.method, _path(request))
            await refusal(request, 500, "the hub's log tells what happened; the studies go on")(scope, receive, answer)

    async def _stopped(self, request: Request) -> Response | None:
        """The answer, where the request is not let through; otherwise it knows who asks. Raises `Refusing`."""
        path = request.scope["path"]  # what routes are looked for by; `url` would cut it at an encoded "?"
        host = _hostname(request.headers.get("host", ""))
        if host not in self._hosts:
            raise Refusing(400, "the hub does not answer to this name: see dashboard_names in hub.toml")
        if "%00" in _target(request):
            raise Refusing(400, "no address here holds such a character")
        if request.method not in METHODS:
            raise Refusing(405, "there is no such method here")
        if request.method == "POST":
            _check_sender(request.headers)
        if path.startswith(f"{STATIC}/"):
            return None
        cookie = request.cookies.get(COOKIE, "")
        person = _person(await run_in_threadpool(find, self._desk.ledger.engine, cookie, time.time()))
        request.state.person = person
        if is_open(path):
            return None
        if person is None:
            if request.method == "POST" or not wants_page(request):
                raise Refusing(401, "sign in first")
            return self._shown_in(request)
        if request.method == "POST":
            token = request.headers.get("x-token", "")
            if not hmac.compare_digest(token.encode(), person.token.encode()):
                raise Refusing(403, "this page is out of date: load it again")
        return None

    def _shown_in(self, request: Request) -> Response:
        """The way to sign in. Whoever follows a link from elsewhere bears no cookie yet: they come again."""
        if request.headers.get("sec-fetch-site") == "cross-site":
            return Response(self._desk.html("again.html", where=local(_target(request))), media_type="text/html")
        return RedirectResponse(sign_in_page(_target(request)), 303)


def names_of(hub: Hub) -> set[str]:
    """The names and addresses under which browsers may ask for the dashboard."""
    certificates = [hub.certificate, *([hub.file.dashboard_certificate] if hub.file.dashboard_certificate else [])]
    certified = [name for each in certificates for name in pki.hosts_of(pki.read_certificate(each))]
    return {"localhost", "127.0.0.1", "::1", hub.file.dashboard_host, *certified, *hub.file.dashboard_names}


def _check_sender(headers: Headers) -> None:
    """That our own page sends this: browsers say so in headers that no page can change."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = site is not None and site not in {"same-origin", "none"}
    other = origin is not None and origin != f"https://{headers.get('host')}"
    if foreign or other or (site is None and origin is None):
        raise Refusing(403, "this came from another place than the hub's own pages")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusing(415, "the hub takes JSON, as its pages send it by their script")


async def _body(request: Request) -> bytes:
    """The whole body, before anybody looks at it. Raises `Refusing` where it is too large or too slow."""
    parts, length = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                length += len(part)
                if length > LARGEST_BODY:
                    raise Refusing(413, f"more than {LARGEST_BODY // 1_000_000} MB")
                parts.append(part)
    except TimeoutError:
        raise Refusing(408, "the request did not arrive in time") from None
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, then what comes after it."""
    left = [body]

    async def given() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return given


def _person(session: Session | None) -> Person | None:
    return None if session is None else Person(session.user, cast(Role, session.role), session.token)


def _hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?", host.lower())
    return found[1].strip("[]") if found else ""


def _target(request: Request) -> str:
    """Path and query as they were sent: printable, whatever is in them."""
    query = request.scope["query_string"].decode("ascii", "replace")
    return _path(request) + (f"?{query}" if query else "")


def _path(request: Request) -> str:
    return str(request.scope.get("raw_path", b"").decode("ascii", "backslashreplace"))


def _log(request: Request, status: int, seconds: float) -> None:
    """One line, without query and cookies; nothing for what a page brings along."""
    if request.scope["path"].startswith(f"{STATIC}/") or request.scope["path"] == "/healthz":
        return
    name = request.state.person.name if request.state.person else "-"
    client = request.client.host if request.client else "-"
    log.info("%s %s %s %s %d %.0f ms", client, name, request.method, _path(request), status, seconds * 1000)
