"""The hub's record is gone through in the background, so that every page can say whether it is whole."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from polyward_server.ledger import Ledger
from polyward_server.views.audit import Integrity, look

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  # between looks at the events since the last one
WHOLE_SECONDS = 3600.0  # between looks at every event from the first on, and at every statement of a site


class Verifier:
    """Keeps what was found last. May be used from any thread; one look at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._whole_at = float("-inf")  # monotonic seconds
        self.found = Integrity()

    def verify(self, *, whole: bool = False) -> Integrity:
        """Looks now. A chain that is broken stays so until a whole look finds it sound again."""
        with self._lock:
            now = time.monotonic()
            whole = whole or bool(self.found.problem) or now - self._whole_at >= WHOLE_SECONDS
            self.found = look(self._ledger, self.found, whole=whole)
            if whole:
                self._whole_at = now
            if self.found.problem:
                log.error("the record of events does not agree: %s", self.found.problem)
            return self.found

    async def keep_looking(self) -> None:
        """Until it is cancelled. The database may be away for a while."""
        while True:
            try:
                await run_in_threadpool(self.verify)
            except sa.exc.SQLAlchemyError:
                log.exception("the record cannot be read; looking again")
            await asyncio.sleep(LOOK_SECONDS)
