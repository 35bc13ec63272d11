"""The way out leads to the hub's addresses, to the letter, by CONNECT, and to nothing else: a real tinyproxy."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_client.gate.way import PORT, filter_of, settings_of, upstream_of
from polyward_client.health import does_well
from polyward_server.hub import free_port
from polyward_shared.problems import Problem
from tests.support.connect_proxy import connect_proxy

ADDRESSES = ["hub.example.org:8443", "192.0.2.7:443", "[2001:db8::7]:8443", "a-b.c:1"]


@given(st.sampled_from(ADDRESSES), st.text("hub.exampleorg:843[]2001d-x/@ \n", max_size=30))
def test_nothing_but_the_addresses_matches(address: str, other: str) -> None:
    lines = filter_of(ADDRESSES).splitlines()
    assert any(re.search(line, address) for line in lines)
    asked = other.strip("\n")
    assert any(re.search(line, asked) for line in lines) == (asked in ADDRESSES)


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"reached")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def there() -> Iterator[int]:
    """The port of something that answers, in the place of a hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@contextmanager
def proxy(folder: Path, address: str, upstream: str = "") -> Iterator[int]:
    """tinyproxy with our settings, but for its port."""
    if shutil.which("tinyproxy") is None:
        if os.environ.get("CI"):
            pytest.fail("tinyproxy is not installed")
        pytest.skip("tinyproxy is not installed")
    port = free_port()
    (folder / "filter").write_text(filter_of([address]))
    settings = settings_of([address], folder / "filter", upstream).replace(f"Port {PORT}\n", f"Port {port}\n", 1)
    (folder / "conf").write_text(settings)
    with subprocess.Popen(["tinyproxy", "-d", "-c", str(folder / "conf")], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        try:
            yield port
        finally:
            process.terminate()


def asked(port: int, text: str, then: str = "") -> str:
    """The answer, and what comes of `then` said through the tunnel."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text.encode())
        answer = connection.recv(4096).decode()
        if then and " 200 " in answer:
            connection.sendall(then.encode())
            while piece := connection.recv(4096):
                answer += piece.decode()
        return answer


def test_it_leads_to_the_hub_and_nowhere_else(tmp_path: Path, there: int) -> None:
    hub = f"127.0.0.1:{there}"
    with proxy(tmp_path, hub) as port:
        through = asked(port, f"CONNECT {hub} HTTP/1.1\r\nHost: {hub}\r\n\r\n", "GET / HTTP/1.0\r\n\r\n")
        assert through.endswith("reached")
        assert "Via" not in through
        for line in (
            f"GET http://{hub}/",
            f"GET {hub}",
            "GET /",
            f"POST http://{hub}/",
            "CONNECT 127.0.0.1:22",
            f"CONNECT localhost:{there}",
            f"CONNECT 127.0.0.2:{there}",
            f"CONNECT 127.0.0.1:{there}/",
            f"CONNECT x@{hub}",
            f"CONNECT http://{hub}",
            "GET http://tinyproxy.stats/",
            "GET http://example.org/",
        ):
            answer = asked(port, f"{line} HTTP/1.1\r\nHost: {hub}\r\n\r\n")
            assert re.match(r"HTTP/1\.[01] 40[03] ", answer), (line, answer)
            assert "reached" not in answer


def test_its_health_is_that_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy(tmp_path, "hub.test:1") as port:
        monkeypatch.setattr("polyward_client.health.WAY_PORT", port)
        assert does_well(tmp_path, "way")
    assert not does_well(tmp_path, "way")


def test_it_goes_through_the_hospitals_own_proxy(tmp_path: Path, there: int) -> None:
    hub = f"hub.test:{there}"
    with connect_proxy({"hub.test": "127.0.0.1"}) as above:
        with proxy(tmp_path, hub, above.address.removeprefix("http://")) as port:
            through = asked(port, f"CONNECT {hub} HTTP/1.1\r\nHost: {hub}\r\n\r\n", "GET / HTTP/1.0\r\n\r\n")
        assert through.endswith("reached")
        assert set(above.asked) == {hub}


def test_the_environment_names_the_proxy_above(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert upstream_of(ADDRESSES[:1]) == ""
    monkeypatch.setenv("https_proxy", "http://user:word@proxy.example.org:8080/")
    assert upstream_of(ADDRESSES[:1]) == "user:word@proxy.example.org:8080"
    monkeypatch.setenv("no_proxy", "example.org")
    assert upstream_of(ADDRESSES[:1]) == ""
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("https_proxy", "socks5://proxy:1080")
    with pytest.raises(Problem, match="socks5"):
        upstream_of(ADDRESSES[:1])
