"""The dashboard as an ASGI application: its routes in one list, and what goes with every answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from polyward_server.dashboard import pages, twins
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.live import Live

STATIC = Path(__file__).parent / "static"
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


def create_app(desk: Desk) -> FastAPI:
    """The dashboard of one hub."""

    @asynccontextmanager
    async def watched(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(app.state.live.watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    app = FastAPI(title=f"polyward: {desk.hub.file.name}", docs_url=None, redoc_url=None, lifespan=watched)
    app.state.desk, app.state.live = desk, Live(desk)
    app.include_router(pages.router)
    app.include_router(twins.router())
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.middleware("http")
    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers.update(HEADERS)
        if not request.url.path.startswith("/static/"):
            response.headers["cache-control"] = "no-store"
        return response

    return app
