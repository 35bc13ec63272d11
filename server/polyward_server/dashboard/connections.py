"""Connections that strangers open: how many from one address, and how long one may be silent or take nothing.

The server itself waits for ever for the first request, and for a browser that reads nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from uvicorn.protocols.http.h11_impl import H11Protocol

from polyward_server.people.attempts import network

MOST, MOST_OF_ADDRESS = 500, 150  # a hospital may stand behind one address; a browser opens six
LOOK_SECONDS = 10.0  # whoever has not come further between two looks is let go

_open: Counter[str] = Counter()  # by address; of the one event loop


class Patient(H11Protocol):
    """One connection; h11 bounds a request's head, which the other parser of the server does not."""

    _address = ""
    _before: tuple[object, bool, int] | None = None  # at the last look
    _next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._address = network(self.client[0] if self.client else "")
        _open[self._address] += 1
        if _open[self._address] > MOST_OF_ADDRESS:
            transport.abort()
        else:
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._next is not None:
            self._next.cancel()
        _open[self._address] -= 1
        if not _open[self._address]:
            del _open[self._address]

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        left = self.transport.get_write_buffer_size() if self.flow.write_paused else 0
        now = (self.cycle, idle, left)
        if (idle or left) and now == self._before:
            self.transport.abort()
            return
        self._before = now
        self._next = self.loop.call_later(LOOK_SECONDS, self._look)
