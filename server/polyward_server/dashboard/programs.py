"""What programs ask that watch over the hub, or want to know what else they may ask."""

from __future__ import annotations

import hmac
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Viewer, asking
from polyward_server.hub import Hub
from polyward_server.views.health import CONTENT_TYPE, metrics_text

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
def healthz() -> str:
    return "ok"


@router.get("/openapi.json")
def openapi(request: Request, _: Viewer) -> JSONResponse:
    description: dict[str, Any] = request.app.openapi()
    return JSONResponse(description)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """For Prometheus, which bears the secret, and for anybody who is signed in."""
    desk: Desk = request.app.state.desk
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    right = kind.lower() == "bearer" and _is_secret(desk.hub, secret)
    if not right and asking(request) is None:
        raise HTTPException(401, "this needs the secret in secrets/metrics", {"www-authenticate": "Bearer"})
    return Response(metrics_text(desk.ledger, desk.roster), media_type=CONTENT_TYPE)


def _is_secret(hub: Hub, secret: str) -> bool:
    """Whether this is the scraper's secret, which the dashboard makes when it first starts."""
    if not hub.metrics_secret.exists():
        return False
    return hmac.compare_digest(secret.encode(), hub.metrics_secret.read_bytes().strip())
