"""How the node does, for a machine that asks: `GET /health` on the loopback, as JSON, 200 when it works and else 503.

It works when it is online at the hub, the trainer answers and there is room on the disk. A node that its people have
paused works. Nothing is told that the hub does not know: no name of a study, no figure of training.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from polyward_client.site import Site
from polyward_client.status import read_status

LEAST_FREE = 1 << 30  # bytes
ANSWER_SECONDS = 2.0

log = logging.getLogger("polyward.gate.health")


@dataclass(frozen=True, slots=True)
class Health:
    """What `/health` says."""

    works: bool
    link: str
    trainer: bool
    paused: bool
    free_bytes: int
    progress_seconds: float | None  # since the trainer last said where it is; None before it first did


def health_of(site: Site, link: str, now: float) -> Health:
    """`link` is the state of the link to the hub, `now` seconds since 1970."""
    trainer, free = trainer_listens(site), min(shutil.disk_usage(path).free for path in (site.gate, site.port))
    heard = read_status(site).get("progress_at")
    return Health(
        works=link == "online" and trainer and free >= LEAST_FREE,
        link=link,
        trainer=trainer,
        paused=site.paused.exists(),
        free_bytes=free,
        progress_seconds=round(now - heard, 1) if isinstance(heard, int | float) else None,
    )


def trainer_listens(site: Site) -> bool:
    """Whether a process takes calls on the trainer's socket, whose path is relative to the folder of this process."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ANSWER_SECONDS)
        try:
            probe.connect(site.socket.name)
        except OSError:
            return False
    return True


@contextmanager
def answering(site: Site, link: Callable[[], str]) -> Iterator[int]:
    """Answers at `limits.health_port` of the loopback while the context is open, and yields the port.

    A port that is taken is said and done without: the node's work is more than being watched.
    """
    try:
        server = ThreadingHTTPServer(("127.0.0.1", site.file.limits.health_port), _handler(site, link))
    except OSError as error:
        log.error("no health endpoint at port %d: %s", site.file.limits.health_port, error)
        yield 0
        return
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _handler(site: Site, link: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = ANSWER_SECONDS
        server_version, sys_version = "polyward", ""

        def do_GET(self) -> None:
            if self.path != "/health":
                self.send_error(404)
                return
            health = health_of(site, link(), time.time())
            body = json.dumps(asdict(health)).encode()
            self.send_response(200 if health.works else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A line for every question of a monitor would drown the others."""

    return Handler
