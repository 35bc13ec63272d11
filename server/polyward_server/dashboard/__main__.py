"""The dashboard's process: `python -m polyward_server.dashboard HUB`. Started by `polyward-hub serve`."""

from __future__ import annotations

import logging
import secrets
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn

from polyward_server.dashboard.app import create_app
from polyward_server.dashboard.connections import MOST, Patient
from polyward_server.dashboard.desk import Desk
from polyward_server.hub import Hub, listening
from polyward_shared import pki
from polyward_shared.supervise import run_child

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2


def run_dashboard(hub: Hub, stop: threading.Event) -> None:
    """Serves pages over TLS until `stop` is set. A certificate that is renewed meanwhile is taken up."""
    if not hub.metrics_secret.exists():
        pki.write_secret(hub.metrics_secret, secrets.token_urlsafe(32).encode())
    certificate, key = hub.file.dashboard_certificate or hub.certificate, hub.file.dashboard_key or hub.key
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    app = create_app(Desk.of(hub))
    app.state.closing = stop
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=Patient,
        host=listening(hub.file.dashboard_host),
        port=hub.file.dashboard_port,
        ssl_context_factory=lambda config, default: context,
        log_level="warning",
        access_log=False,  # the door writes one without queries
        ws="none",
        proxy_headers=False,  # whose address it is decides how often it may try a password
        server_header=False,
        limit_concurrency=MOST,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="dashboard")
    thread.start()
    renewed = _renewal(context, certificate, key)
    while thread.is_alive() and not stop.wait(LOOK_SECONDS):
        renewed()
    server.should_exit = True
    thread.join()


def _renewal(context: ssl.SSLContext, certificate: Path, key: Path) -> Callable[[], None]:
    """Looks whether the files are others than before, and if so gives them to those who connect from now on."""
    known = _stamp(certificate, key)

    def look() -> None:
        nonlocal known
        now = _stamp(certificate, key)
        if now in {known, None}:
            return
        known = now
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:  # perhaps only one of the two is there yet
            log.warning("the dashboard's new certificate cannot be used yet: %s", error)
        else:
            log.info("the dashboard's certificate is renewed")

    return look


def _stamp(*paths: Path) -> tuple[int, ...] | None:
    try:
        return tuple(path.stat().st_mtime_ns for path in paths)
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    here = Hub(Path(sys.argv[1]))
    sys.exit(run_child("dashboard", lambda stop: run_dashboard(here, stop)))
