"""The dashboard as an ASGI application: its routes in one list, behind one door."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from polyward_server.dashboard import (
    accounts,
    downloads,
    pages,
    programs,
    registry_pages,
    signing_in,
    twins,
    vouching,
    writing_pages,
)
from polyward_server.dashboard.actions import ROUTERS
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.door import Door, names_of
from polyward_server.dashboard.guard import STATIC, needed
from polyward_server.dashboard.live import Live
from polyward_server.dashboard.oidc import Provider
from polyward_server.dashboard.refusals import Refusal, add_handlers

HERE = Path(__file__).parent


def create_app(desk: Desk) -> FastAPI:
    """The dashboard of one hub. Raises `RuntimeError` if a route does not say who may use it."""

    @asynccontextmanager
    async def watched(app: FastAPI) -> AsyncIterator[None]:
        background = [asyncio.create_task(app.state.live.watch()), asyncio.create_task(desk.verifier.keep_looking())]
        yield
        for task in background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    app = FastAPI(
        title=f"polyward: {desk.hub.file.name}",
        openapi_url=None,  # a route of our own, for those who are signed in
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=watched,
        responses={"4XX": {"model": Refusal}, "5XX": {"model": Refusal}},
    )
    app.state.desk, app.state.live = desk, Live(desk)
    app.state.closing = threading.Event()  # set when the process is to end
    app.state.streams = Counter()  # that are open, by person
    app.state.passwords = CapacityLimiter(signing_in.AT_ONCE)
    people = (signing_in.router, accounts.pages, accounts.router)
    for each in (
        programs.router,
        *people,
        pages.router,
        registry_pages.router,
        writing_pages.router,
        downloads.router,
        twins.router(),
        *ROUTERS,
    ):
        app.include_router(each)
    if desk.hub.file.oidc is not None:
        app.state.provider = Provider(desk.hub.file.oidc, desk.hub.oidc_secret)
        app.include_router(vouching.router)
    app.mount(STATIC, StaticFiles(directory=HERE / "static"), name="static")
    add_handlers(app)
    needed(app)
    app.add_middleware(Door, desk=desk, hosts=names_of(desk.hub))
    return app
