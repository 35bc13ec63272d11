"""The dashboard's process: `python -m polyward_server.dashboard HUB`. Started by `polyward-hub serve`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import uvicorn

from polyward_server.dashboard.app import create_app
from polyward_server.dashboard.desk import Desk
from polyward_server.hub import Hub
from polyward_shared.supervise import run_child


def run_dashboard(hub: Hub, stop: threading.Event) -> None:
    """Serves pages over TLS until `stop` is set."""
    config = uvicorn.Config(
        create_app(Desk.of(hub)),
        host=hub.file.dashboard_host,
        port=hub.file.dashboard_port,
        ssl_certfile=hub.file.dashboard_certificate or hub.certificate,
        ssl_keyfile=hub.file.dashboard_key or hub.key,
        log_level="warning",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="dashboard")
    thread.start()
    while thread.is_alive() and not stop.wait(0.2):
        pass
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    here = Hub(Path(sys.argv[1]))
    sys.exit(run_child("dashboard", lambda stop: run_dashboard(here, stop)))
