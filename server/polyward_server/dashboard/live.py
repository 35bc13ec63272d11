"""Pages that stay current: one look at the ledger for everybody who watches, and only what changed is sent.

However many people have a page open, a panel is drawn once for each role, and sent to a browser when its HTML is
another than before. A stream begins with every panel of its page, so a browser that was away, or a hub that was
restarted, needs no memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from polyward_server.contacts import pulse_of
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.panels import ALARM, CONTACTS, EVENTS, RECORD, ROUNDS, Choice, Panel, drawn, panels_of
from polyward_server.records import State
from polyward_server.tables import heads, kept, rounds, studies
from polyward_shared.problems import Problem

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
MOST_WAITING = 200  # panels; a browser that is further behind is let go, and begins anew when it is back


@dataclass(frozen=True, slots=True)
class Page:
    """What somebody has open: `study` is a digest, or empty on pages of the whole hub."""

    name: str
    study: str
    role: str
    choice: Choice = ()


@dataclass(slots=True)
class Audience:
    """Everybody who has the same page open, and what they see."""

    shown: dict[str, str] = field(default_factory=dict)
    streams: set[asyncio.Queue[tuple[str, str] | None]] = field(default_factory=set)


class Live:
    """The one watcher of a dashboard. All methods belong to its event loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pages: dict[Page, Audience] = {}
        self._pulse: dict[str, object] = {}

    async def watch(self) -> None:
        """Looks for changes until it is cancelled. The database may be away for a while."""
        while True:
            try:
                await self._look()
            except sa.exc.SQLAlchemyError:
                log.exception("the ledger cannot be read; looking again")
            await asyncio.sleep(LOOK_SECONDS)

    async def panels(self, page: Page) -> AsyncIterator[tuple[str, str]]:
        """Name and HTML of every panel of the page, then of each that changes."""
        queue: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue(MOST_WAITING)
        audience = self._pages.setdefault(page, Audience())
        audience.streams.add(queue)
        try:
            for panel in (ALARM, *panels_of(page.name)):
                html = await run_in_threadpool(drawn, self._desk, panel, page.study, page.role, page.choice)
                # not in place of what others see: if that is older, the next look tells them
                audience.shown.setdefault(panel.name, html)
                yield panel.name, html
            while (changed := await queue.get()) is not None:
                yield changed
        finally:
            audience.streams.discard(queue)
            if not audience.streams:
                self._pages.pop(page, None)

    async def _look(self) -> None:
        if not self._pages:
            return
        pulse = await run_in_threadpool(self._feel)
        changed = {topic for topic, value in pulse.items() if self._pulse.get(topic) != value}
        for page, audience in list(self._pages.items()):
            for panel in (ALARM, *panels_of(page.name)):
                if panel.topics & changed:
                    await self._refresh(page, audience, panel)
        self._pulse = pulse  # only now: what could not be read is looked for again

    async def _refresh(self, page: Page, audience: Audience, panel: Panel) -> None:
        try:
            html = await run_in_threadpool(drawn, self._desk, panel, page.study, page.role, page.choice)
        except Problem:
            return  # what the page shows was discarded meanwhile
        except sa.exc.SQLAlchemyError:
            raise
        except Exception:  # one panel's defect leaves all others current
            log.exception("the panel %s of the page %s cannot be drawn", panel.name, page.name)
            return
        if audience.shown.get(panel.name) == html:
            return
        audience.shown[panel.name] = html
        for queue in list(audience.streams):
            if queue.full():
                audience.streams.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait((panel.name, html))

    def _feel(self) -> dict[str, object]:
        """A value for each topic, another one whenever something there has changed."""
        with self._desk.ledger.engine.connect() as db:
            newest = db.execute(sa.select(sa.func.max(heads.c.number))).scalar()
            ended = sa.select(sa.func.count()).select_from(studies).where(studies.c.state == State.FINISHED)
            counts = [sa.select(sa.func.count()).select_from(table) for table in (rounds, kept)]
            return {
                EVENTS: newest,
                CONTACTS: pulse_of(db),
                ROUNDS: tuple(db.execute(query).scalar() for query in (*counts, ended)),
                RECORD: self._desk.verifier.found,
            }
