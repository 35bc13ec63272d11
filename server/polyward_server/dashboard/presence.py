"""A stream lasts no longer than the session that it was opened in."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import COOKIE
from polyward_server.people.sessions import find

LOOK_SECONDS = 10.0  # at the session
STOP_SECONDS = 0.5  # at whether the process is to end
MOST_STREAMS = 40  # of one person: nobody keeps the hub's connections to themselves

ItemT = TypeVar("ItemT")


async def while_signed_in(request: Request, stream: AsyncIterator[ItemT]) -> AsyncIterator[ItemT | None]:
    """What the stream yields, until the session ends; then None, and no more. It ends when the process is to end.

    Whoever has a page open counts as present, as people watch a long study without touching anything: the session's
    idle limit waits, its longest life does not.
    """
    desk: Desk = request.app.state.desk
    cookie = request.cookies.get(COOKIE, "")
    looked = time.monotonic()
    coming = asyncio.ensure_future(anext(stream))
    open_streams: Counter[str] = request.app.state.streams
    open_streams[request.state.person.name] += 1
    try:
        while True:
            await asyncio.wait({coming}, timeout=min(LOOK_SECONDS, STOP_SECONDS))
            if request.app.state.closing.is_set():
                return
            if time.monotonic() >= looked + LOOK_SECONDS:
                if await run_in_threadpool(find, desk.ledger.engine, cookie, time.time()) is None:
                    yield None
                    return
                looked = time.monotonic()
            if coming.done():
                try:
                    item = coming.result()
                except StopAsyncIteration:
                    return
                yield item
                coming = asyncio.ensure_future(anext(stream))
    finally:
        open_streams[request.state.person.name] -= 1
        coming.cancel()
        await asyncio.wait({coming})
