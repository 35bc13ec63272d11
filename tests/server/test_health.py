"""A hub's health is that each of its ports answers, in TLS where strangers may see that much."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyward_server import health
from polyward_server.health import ailing
from polyward_server.hub import Hub, free_port, init


def made(folder: Path) -> Hub:
    port, control, dashboard = free_port(), free_port(), free_port()
    return init(folder, name="test", host="127.0.0.1", port=port, control_port=control, dashboard_port=dashboard)


@contextmanager
def answering(port: int, hub: Hub | None = None) -> Iterator[None]:
    """Somebody who takes connections on the loopback; in TLS with the hub's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if hub:
        context.load_cert_chain(hub.certificate, hub.key)

    def serve() -> None:
        connection, _ = listener.accept()
        if hub:
            connection = context.wrap_socket(connection, server_side=True)
        else:
            connection.sendall(b"220 ready\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_each_port_is_asked(tmp_path: Path) -> None:
    hub = made(tmp_path)
    settings = hub.file.model_dump()
    assert ailing(settings) == ["orders and enrolment", "the dashboard", "the control plane"]
    with answering(hub.file.port, hub), answering(hub.file.control_port):
        assert ailing(settings) == ["the dashboard"]
    with answering(hub.file.port, hub), answering(hub.file.control_port), answering(hub.file.dashboard_port, hub):
        assert ailing(settings) == []


def test_what_takes_calls_and_speaks_no_tls_is_not_well(tmp_path: Path) -> None:
    hub = made(tmp_path)
    with answering(hub.file.port):
        assert "orders and enrolment" in ailing(hub.file.model_dump())


def test_it_imports_nothing_that_takes_time() -> None:
    """It runs every few seconds for as long as the hub does."""
    source = Path(health.__file__).read_text(encoding="utf-8")
    imports = [line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not [name for name in imports if name.startswith("polyward")]
