"""The one watcher of a dashboard: everybody who has a page open is told what is new, whatever befalls a panel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from polyward_server.dashboard import live
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.live import Live, Page
from polyward_server.dashboard.panels import HUB_PANELS, Panel
from polyward_server.hub import init
from tests.support.hub import free_port
from tests.support.toy_trainer import toy_study

OVERVIEW = Page("overview", "", "viewer")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.of(init(tmp_path / "hub", name="test", host="127.0.0.1", port=free_port()))


async def begun(watcher: Live) -> AsyncIterator[tuple[str, str]]:
    """A stream of the overview that has been given the whole page."""
    stream = watcher.panels(OVERVIEW)
    assert [(await anext(stream))[0] for _ in range(2)] == ["alarm", "studies"]
    return stream


def test_who_looked_on_is_told_although_somebody_else_has_just_come(desk: Desk) -> None:
    async def run() -> None:
        watcher = Live(desk)
        early = await begun(watcher)
        await watcher._look()
        desk.ledger.queue(toy_study())
        late = await begun(watcher)  # sees it at once
        await watcher._look()
        name, html = await asyncio.wait_for(anext(early), 5)
        assert (name, toy_study().id in html) == ("studies", True)
        await late.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_a_panel_that_cannot_be_drawn_stops_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    [studies] = HUB_PANELS["overview"]

    def read(*_: object) -> NoReturn:
        raise KeyError("a word that nobody knew")

    broken = replace(studies, name="broken", read=read)

    def both(_: str) -> tuple[Panel, ...]:
        return (broken, studies)

    async def run() -> None:
        watcher = Live(desk)
        stream = await begun(watcher)
        await watcher._look()
        monkeypatch.setattr(live, "panels_of", both)
        desk.ledger.queue(toy_study())
        await watcher._look()
        assert (await asyncio.wait_for(anext(stream), 5))[0] == "studies"

    asyncio.run(run())
