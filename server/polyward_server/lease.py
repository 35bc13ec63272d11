"""Who runs a study: of all hubs with one database, the one that holds its lease.

A lease is taken for a while and renewed. Its holder is the hub's folder, not the process: a runner that was killed
is followed by another of the same folder, which takes the lease over at once. Safety does not rest on clocks: whoever
lost a lease is turned away in the transaction of its next round (`fence`).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from polyward_server.tables import leases
from polyward_shared.whole import write_whole

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
RENEW_SECONDS = 8.0


class LeaseLost(Exception):
    """Another hub runs the study now."""


def holder_of(folder: Path) -> str:
    """The name under which this hub's folder holds leases; made once."""
    path = folder / "secrets" / "holder"
    if not path.is_file():
        write_whole(path, secrets.token_hex(16).encode())
    return path.read_text(encoding="ascii")


def is_held(engine: sa.Engine, study: str) -> bool:
    """Whether a runner has this study in its hands."""
    good = (leases.c.study == study) & (leases.c.until > time.time())
    with engine.connect() as db:
        return db.execute(sa.select(leases.c.study).where(good)).first() is not None


class Lease:
    """The right to run one study. Use as a context once it is taken: it is renewed meanwhile and given back after."""

    def __init__(self, engine: sa.Engine, study: str, holder: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._engine, self._study, self._holder, self._seconds = engine, study, holder, seconds
        self._own = (leases.c.study == study) & (leases.c.holder == holder)
        self._over, self.lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> bool:
        """True when it is ours now: it was free, ours before, or not renewed in time."""
        now = time.time()
        values = {"holder": self._holder, "until": now + self._seconds}
        free = (leases.c.study == self._study) & ((leases.c.holder == self._holder) | (leases.c.until < now))
        try:
            with self._engine.begin() as db:
                if db.execute(leases.update().where(free).values(**values)).rowcount:
                    return True
                if db.execute(sa.select(leases.c.holder).where(leases.c.study == self._study)).first() is not None:
                    return False
                db.execute(leases.insert().values(study=self._study, **values))
        except sa.exc.IntegrityError:  # another hub was quicker
            return False
        return True

    def fence(self, db: sa.Connection) -> None:
        """Within a transaction: nobody takes the lease until it ends. Raises `LeaseLost` if somebody has."""
        if not db.execute(leases.update().where(self._own).values(until=time.time() + self._seconds)).rowcount:
            self.lost.set()
            raise LeaseLost(self._study)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        try:
            with self._engine.begin() as db:
                db.execute(sa.delete(leases).where(self._own))
        except sa.exc.DBAPIError as failed:  # it ends by itself, and this hub may take it before
            log.info("the lease of study %s was not given back: %s", self._study[:12], failed.orig)

    def _keep(self) -> None:
        while not self._over.wait(min(RENEW_SECONDS, self._seconds / 3)):
            try:
                with self._engine.begin() as db:
                    self.fence(db)
            except LeaseLost:
                return
            except sa.exc.DBAPIError as failed:  # the database is away for now
                log.warning("the lease of study %s was not renewed: %s", self._study[:12], failed.orig)
