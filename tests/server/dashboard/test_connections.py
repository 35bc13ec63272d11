"""What a stranger does with connections alone: endless heads, silence, reading nothing, many at once."""

from __future__ import annotations

import socket
import ssl
import time

import pytest

from polyward_server.dashboard import connections
from tests.support.dashboard import Served

ENDED = r"(?i)pipe|reset|eof|closed|protocol"  # in the words of several systems


def _connected(dashboard: Served, buffer: int = 0) -> ssl.SSLSocket:
    plain = socket.socket()
    if buffer:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    plain.settimeout(10)
    plain.connect(("127.0.0.1", dashboard.hub.file.dashboard_port))
    return ssl.create_default_context(cafile=dashboard.hub.ca).wrap_socket(plain, server_hostname="127.0.0.1")


def _send_on(connection: ssl.SSLSocket, piece: bytes, times: int, pause: float) -> None:
    """Sends the piece so often. Raises `OSError` once the other side has ended the connection."""
    for _ in range(times):
        connection.sendall(piece)
        time.sleep(pause)


def _is_ended(connection: ssl.SSLSocket) -> bool:
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize("piece", [b"x" * 10_000, b"x: y\r\n" * 2_000], ids=["one header", "many headers"])
def test_a_head_without_end_is_not_read(dashboard: Served, piece: bytes) -> None:
    with _connected(dashboard) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        with pytest.raises(OSError, match=ENDED):
            _send_on(connection, piece, 100, 0.002)  # a megabyte


@pytest.mark.parametrize("sent", [b"", b"GET /sign-in HTTP/1.1\r\n"], ids=["nothing", "half a head"])
def test_who_says_nothing_is_let_go(dashboard: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.1)
    with _connected(dashboard) as connection:
        connection.sendall(sent)
        assert _is_ended(connection)


def test_a_byte_now_and_then_is_no_request(dashboard: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.2)
    with _connected(dashboard) as connection:
        connection.sendall(b"GET /sign-in HTTP/1.1\r\nx: ")
        with pytest.raises(OSError, match=ENDED):
            _send_on(connection, b"y", 100, 0.05)


def test_who_reads_nothing_is_let_go(dashboard: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.2)
    asked = f"GET /static/uplot-1.6.32.min.js HTTP/1.1\r\nhost: 127.0.0.1:{dashboard.hub.file.dashboard_port}\r\n\r\n"
    with _connected(dashboard, buffer=4096) as connection:
        with pytest.raises(OSError, match=f"{ENDED}|timed out"):
            _send_on(connection, asked.encode() * 10, 400, 0.01)
        deadline = time.monotonic() + 10
        while connections._open and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not connections._open


def test_a_stream_that_is_read_stays(dashboard: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    with dashboard.browser("viewer") as client, client.stream("GET", "/live/overview") as stream:
        assert stream.status_code == 200
        time.sleep(0.5)  # idle for many looks
        assert sum(connections._open.values()) == 1


def test_one_address_has_its_share_and_others_theirs(dashboard: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_OF_ADDRESS", 3)
    held = [_connected(dashboard) for _ in range(3)]
    time.sleep(0.1)
    try:
        with _connected(dashboard) as fourth:
            assert _is_ended(fourth)
    except OSError:
        pass  # already within the handshake
    held.pop().close()
    time.sleep(0.2)
    with dashboard.browser() as client:
        assert client.get("/healthz").status_code == 200
    for each in held:
        each.close()


def test_one_person_has_so_many_streams(dashboard: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyward_server.dashboard.pages.MOST_STREAMS", 2)
    with dashboard.browser("viewer", "vera") as client, dashboard.browser("viewer", "otto") as other:
        with client.stream("GET", "/live/overview") as first, client.stream("GET", "/live/sites") as second:
            assert (first.status_code, second.status_code) == (200, 200)
            coming = [stream.iter_bytes() for stream in (first, second)]
            assert all(next(each) for each in coming)
            assert client.get("/live/audit").status_code == 429
            with other.stream("GET", "/live/audit") as third:
                assert third.status_code == 200
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with client.stream("GET", "/live/audit") as again:
                if again.status_code == 200:
                    return
            time.sleep(0.1)
        pytest.fail("closed streams still count")
