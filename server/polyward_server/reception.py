"""Where a stranger with an invitation asks for a certificate: two paths in front of the door to Flower.

    GET  /v1/enrolment/authority   the authority's certificate; the invitation holds its fingerprint
    POST /v1/enrolment             {token, request} -> {state, certificate}; asked again until it is issued

Nothing is signed here. The caller learns one word of a closed list, after half a second when it is a refusal.
"""

from __future__ import annotations

import asyncio
import json
import time

from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from polyward_server.database import Where
from polyward_server.flower.door import Refused, answer, read_body
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared.pki import public_key_pem, read_request
from polyward_shared.reading import Frozen

AUTHORITY = "/v1/enrolment/authority"
ENROLMENT = "/v1/enrolment"
LARGEST_REQUEST = 8 * 1024
REFUSAL_SECONDS = 0.5
REQUEST_SECONDS = 20.0  # for all of a request, which is one packet or two


class Request(Frozen):
    """What a site sends."""

    token: str = Field(max_length=100, pattern=r"^[\x20-\x7e]*$")
    request: str = Field(max_length=4096, pattern=r"^[\x20-\x7e\r\n]*$")  # PKCS#10, PEM


class Reception:
    """ASGI filter around the door; everything but the two paths on the public socket passes through."""

    def __init__(self, app: ASGIApp, *, ledger: Where, authority: bytes, private_port: int) -> None:
        self._app = app
        self._roster = Roster(Ledger(ledger))
        self._authority = authority
        self._private = ("127.0.0.1", private_port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = scope["type"] == "http" and tuple(scope["server"] or ()) != self._private
        match (scope["method"], scope["path"]) if here else ("", ""):
            case ("GET", path) if path == AUTHORITY:
                await _send(send, 200, self._authority, b"application/x-pem-file")
            case ("POST", path) if path == ENROLMENT:
                try:
                    async with asyncio.timeout(REQUEST_SECONDS):
                        body = await read_body(scope, receive, LARGEST_REQUEST)
                except Refused as refused:
                    await answer(send, refused.status)
                    return
                except TimeoutError:  # a byte now and then is no sign of life here
                    await answer(send, 408)
                    return
                status, reply = await run_in_threadpool(self.enrol, body)
                if status != 200:
                    await asyncio.sleep(REFUSAL_SECONDS)
                await _send(send, status, json.dumps(reply).encode(), b"application/json")
            case _:
                await self._app(scope, receive, send)

    def enrol(self, body: bytes) -> tuple[int, dict[str, str]]:
        """The answer to one request: status and record."""
        try:
            asked = Request.model_validate_json(body, strict=True)
            name, key = read_request(asked.request.encode())
        except (ValidationError, ValueError):
            return 400, {"refused": "malformed"}
        invitation = self._roster.asked(asked.token)
        if invitation is None:
            return 403, {"refused": "unknown"}
        if invitation.rejected:
            return 403, {"refused": "rejected"}
        if name != invitation.site:
            return 403, {"refused": "name"}
        if not invitation.request and time.time() > invitation.expires:
            return 403, {"refused": "expired"}
        if self._roster.was_revoked(public_key_pem(key)):
            return 403, {"refused": "revoked"}
        if not self._roster.use(asked.token, asked.request):
            return 403, {"refused": "used"}
        issued = self._roster.newest(name, public_key_pem(key))
        if issued is not None and issued.expires > time.time():
            return 200, {"state": "issued", "certificate": issued.pem}
        if invitation.served:
            return 403, {"refused": "expired"}
        return 200, {"state": "approved" if invitation.approved else "pending"}


async def _send(send: Send, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
