"""Flower's SuperLink as a process of the hub, with nothing public but what a gate needs.

The stock command `flower-superlink` binds one port for everything. Here the same application is built with the
settings of `--isolation process --enable-supernode-auth --disable-runtime-dependency-installation`, put behind
`door.Door` and served by one event loop on two sockets: the hospitals' (any address) and the hub's own
(loopback). Its database is in memory by default: the hub's ledger is the truth, and node keys are registered
again at every start.

    python -m polyward_server.flower.superlink --config superlink.json

The file names other files for every secret; no secret is ever an argument. The process ends on SIGTERM within
two seconds, and by itself when the process that started it dies.
"""

import argparse
import gc
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from pydantic import BaseModel, ConfigDict

from polyward_shared.supervise import came_round, send_pulse

if TYPE_CHECKING:  # Flower reads its environment when imported, so it is imported after `_quiet`
    from fastapi import FastAPI
    from flwr.superlink.config_loader import SuperLinkLifespanConfig
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp

IN_MEMORY = ":flwr-in-memory:"
SHORTEST_HEARTBEAT = 1.0  # seconds; Flower's own floor of 10 keeps a killed gate "online" for 20
KEEP_ALIVE = 30  # seconds; longer than httpx keeps an idle connection (5), so that only the client closes it
LAST_SECONDS = 1  # for requests in flight when the end has come
MOMENT_SECONDS = 30.0  # the longest that one request keeps the event loop to itself

# Layers of Flower's application that do nothing here (event logs, licences and tracing are off, and nothing
# asks for OAuth); each costs 0.3 ms a request all the same. Authentication and error handling are not among them.
IDLE_LAYERS = frozenset(
    {
        "ControlSensitiveResponseMiddleware",
        "ControlLicenseMiddleware",
        "ControlEventLogMiddleware",
        "FleetEventLogMiddleware",
        "RuntimeTracingMiddleware",
    }
)

# Chunks of megabytes pass through forty threads: with an arena for each, glibc would keep much of them.
ALLOCATOR = {"MALLOC_ARENA_MAX": "2"}


class SuperLinkConfig(BaseModel):
    """What the process is told, as a JSON file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str  # the public address to bind
    port: int
    private_port: int  # on 127.0.0.1
    certificate: Path  # must name the public host and 127.0.0.1
    key: Path
    ca: Path
    superexec_secret: Path
    private_secret: Path
    home: Path  # Flower's own folder
    ledger: str = ""  # file or address of the database where enrolment is kept; without it nobody can enrol here
    ledger_password: Path = Path()  # of a database server; the file need not exist
    database: str = IN_MEMORY
    max_body: int = 8 * 2**20


def start(config: Path) -> subprocess.Popen[bytes]:
    """Start the SuperLink as a child that dies with us: it watches the pipe that only we hold open.

    A parent-death signal would not do: Linux sends it when the *thread* that started the child ends.
    """
    command = [sys.executable, "-m", "polyward_server.flower.superlink", "--config", str(config)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | ALLOCATOR)


def main(arguments: list[str] | None = None) -> None:
    """Run the SuperLink until it is told to stop or its parent is gone."""
    parser = argparse.ArgumentParser(description="Flower's SuperLink behind the hub's door.")
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="superlink: %(levelname)s %(message)s")
    serve(SuperLinkConfig.model_validate_json(options.config.read_bytes()))


def serve(config: SuperLinkConfig) -> None:
    """Serve both sockets from one event loop; the application's lifespan runs once."""
    _quiet(config.home)
    from polyward_server.flower.door import Door

    sockets = [
        socket.create_server(
            (config.host, config.port), family=socket.AF_INET6 if ":" in config.host else socket.AF_INET
        ),
        socket.create_server(("127.0.0.1", config.private_port)),
    ]
    door = Door(
        build_app(config),
        private_port=config.private_port,
        secret=read_secret(config.private_secret),
        max_body=config.max_body,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            _received(door, config),
            http="h11",  # bounds the size of a request's head, which httptools does not
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=LAST_SECONDS,
            callback_notify=_came_round,
            timeout_notify=1,
            ssl_certfile=config.certificate,
            ssl_keyfile=config.key,
        )
    )
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    send_pulse()
    server.run(sockets)


async def _came_round() -> None:
    """The event loop comes round; one that does not for so long is hung."""
    came_round(MOMENT_SECONDS)


def _received(door: "ASGIApp", config: SuperLinkConfig) -> "ASGIApp":
    """The door, with the reception for enrolment in front of it where there is a ledger."""
    if not config.ledger:
        return door
    from polyward_server.database import located
    from polyward_server.reception import Reception

    ledger = located(config.ledger, config.ledger_password)
    return Reception(door, ledger=ledger, authority=config.ca.read_bytes(), private_port=config.private_port)


def build_app(config: SuperLinkConfig) -> "FastAPI":
    """Return Flower's own application, configured as its command would for process isolation."""
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.main import create_app
    from flwr.superlink.servicer.fleet import fleet_handlers

    setattr(fleet_handlers, "HEARTBEAT_MIN_INTERVAL", SHORTEST_HEARTBEAT)  # noqa: B010 (not ours to assign)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    logging.getLogger("flwr").addFilter(_worth_a_line)
    logging.getLogger("uvicorn.error").addFilter(_worth_a_line)
    app = create_app(_lifespan_config(config), SuperLinkLifespan)
    app.user_middleware = [layer for layer in app.user_middleware if name_of(layer) not in IDLE_LAYERS]
    gc.freeze()  # the modules loaded by now stay: without this each full collection walks them
    return app


def name_of(layer: "Middleware") -> str:
    """Return the name of a layer's class."""
    return getattr(layer.cls, "__name__", "")


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Drop two lines: a refused call (any stranger could fill the log) and idle connections cut at the end."""
    text = record.getMessage()
    return "[ApiError:" not in text and "timeout graceful shutdown" not in text


def _lifespan_config(config: SuperLinkConfig) -> "SuperLinkLifespanConfig":
    from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
    from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin

    pem = (config.ca.read_bytes(), config.certificate.read_bytes(), config.key.read_bytes())
    return SuperLinkLifespanConfig(
        control_address="127.0.0.1:0",  # of the gRPC servers that `_quiet` keeps off
        health_server_address=None,
        host="127.0.0.1",
        port=config.private_port,
        insecure=False,
        certificates=pem,
        superexec_auth_secret=read_secret(config.superexec_secret),
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=str(config.ca),
        ssl_certfile=str(config.certificate),
        ssl_keyfile=str(config.key),
        database=config.database,
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )


def read_secret(path: Path) -> bytes:
    """Return the secret in a file; refuse an empty one and one that others may read."""
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} must be readable by its owner only: chmod 600 {path}")
    secret = path.read_bytes()
    if len(secret) < 16:
        raise ValueError(f"{path} holds {len(secret)} bytes; a secret needs at least 16")
    return secret


def _quiet(home: Path) -> None:
    """Set Flower's environment: own folder, no calls home, none of its old gRPC servers."""
    os.environ |= {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    for name in ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API", "FLWR_OIDC_ENABLED"):
        os.environ.pop(name, None)


def _end_with_parent(server: uvicorn.Server) -> None:
    """Wait for the end of standard input, which the parent holds; then stop, whatever still runs."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True
    time.sleep(2 * LAST_SECONDS + 1)
    os._exit(1)


if __name__ == "__main__":
    main()
