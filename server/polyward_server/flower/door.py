"""The door in front of Flower's SuperLink: who may ask for what on which socket.

Flower serves three APIs on one port. Two of them, Control and Runtime, take orders from anybody who reaches
the port (start a run with any code, act as the server of a run). This ASGI filter sees every request first:
on the public socket it answers only the eight Fleet calls that a gate makes, on the private one only Control
and Runtime, and only to a caller who knows the hub's own secret.

It also closes two gaps inside the Fleet API. A body is read here, against a limit, before anything parses it.
And a reply must come in the name of the node that signed the request: Flower checks the signature against the
request's node, but takes the message's own sender field on trust, so that a site could answer for another
site or address other sites as if it were the server.
"""

import asyncio
import hmac
from collections.abc import Iterator, MutableMapping
from typing import Any

from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from google.protobuf.message import DecodeError
from starlette.types import ASGIApp, Receive, Scope, Send

HUB_HEADER = "x-polyward-hub"

FLEET = "/v1/fleet/"
# Exact names, so that no spelling of a path can reach anything else. Absent on purpose: register-node and
# unregister-node (the hub does that), get-run and get-fab (a gate never asks for a bundle).
FLEET_CALLS = frozenset(
    FLEET + call
    for call in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "pull-object",
        "push-object",
        "confirm-message-received",
    )
)
PRIVATE_PREFIXES = ("/v1/control/", "/v1/runtime/")

SMALL_BODY = 256 * 1024  # every Fleet call but push-object: keys, ids, one tree of object ids
MAX_OBJECTS_PER_REPLY = 1024  # at 5 MiB a chunk, an encoder of 5 GB; bounds what one reply may store
MOST_DIGITS = 20  # of an announced length
SILENCE_SECONDS = 30.0  # without a byte of an unfinished body


class Refused(Exception):
    """The request ends here, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Door:
    """ASGI filter around the SuperLink's app; the lifespan passes through."""

    def __init__(self, app: ASGIApp, *, private_port: int, secret: bytes, max_body: int) -> None:
        self._app = app
        self._private = ("127.0.0.1", private_port)
        self._secret = secret
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on with its body already read."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websocket is spoken here
            raise RuntimeError(f"the door got a scope of type {scope['type']}")
        try:
            self._admit(scope)
            body = await read_body(scope, receive, self._limit(scope["path"]))
            if scope["path"] == FLEET + "push-messages":
                check_reply(body)
        except Refused as refusal:
            await answer(send, refusal.status)
        else:
            await self._app(scope, replay(body, receive), send)

    def _admit(self, scope: Scope) -> None:
        """Raise Refused unless this path is served to this caller on this socket.

        The socket is known by its own local address, which the caller cannot choose.
        """
        path = scope["path"]
        if scope["raw_path"] != path.encode() or scope["method"] != "POST":
            raise Refused(404)
        if tuple(scope["server"] or ()) != self._private:
            if path not in FLEET_CALLS:
                raise Refused(404)
            return
        given = dict(scope["headers"]).get(HUB_HEADER.encode(), b"")
        if not hmac.compare_digest(given, self._secret):
            raise Refused(403)
        if not path.startswith(PRIVATE_PREFIXES):
            raise Refused(404)

    def _limit(self, path: str) -> int:
        if path in FLEET_CALLS and path != FLEET + "push-object":
            return min(SMALL_BODY, self._max_body)
        return self._max_body


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the whole body; raise Refused as soon as it is known to exceed the limit."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if not announced.isdigit() or len(announced) > MOST_DIGITS or int(announced) > limit:
        raise Refused(413 if announced.isdigit() else 400)
    parts: list[bytes] = []
    length = 0
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                event = await receive()
        except TimeoutError as error:
            raise Refused(408) from error
        if event["type"] != "http.request":  # the caller hung up
            raise Refused(400)
        part = event.get("body", b"")
        length += len(part)
        if length > limit:
            raise Refused(413)
        parts.append(part)
        if not event.get("more_body", False):
            return b"".join(parts)


def check_reply(body: bytes) -> None:
    """Raise Refused unless this is one reply, in the sender's own name, of bounded size."""
    request = PushMessagesRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise Refused(400) from error
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        raise Refused(400)
    metadata = request.messages_list[0].metadata
    if metadata.src_node_id != request.node.node_id or not metadata.reply_to_message_id:
        raise Refused(403)
    for count, _ in enumerate(nodes_of(request.message_object_trees[0]), start=1):
        if count > MAX_OBJECTS_PER_REPLY:
            raise Refused(413)


def nodes_of(tree: ObjectTree) -> Iterator[ObjectTree]:
    """Yield every node of the tree, without recursion: its depth is the sender's choice."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.children)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive function that hands out the body once and then only what follows it."""
    handed_out = False

    async def receive_again() -> MutableMapping[str, Any]:
        nonlocal handed_out, body
        if handed_out:
            return await receive()
        handed_out = True
        event = {"type": "http.request", "body": body, "more_body": False}
        body = b""
        return event

    return receive_again


async def answer(send: Send, status: int) -> None:
    """Refuse without a word and end the connection: what follows on it was never read."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
