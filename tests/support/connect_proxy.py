"""An HTTP proxy as hospitals have them: it knows CONNECT, resolves names itself, and remembers who was asked for."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Proxy(socketserver.ThreadingTCPServer):
    """Passes on what is for the names in `known`; answers 403 for all others."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, known: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.known = known
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        words = self.rfile.readline(4096).decode("latin-1").split()
        while self.rfile.readline(4096).strip():
            pass  # headers
        if len(words) != 3 or words[0] != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        self.server.asked.append(words[1])
        host, _, port = words[1].rpartition(":")
        if host not in self.server.known:
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        with socket.create_connection((self.server.known[host], int(port)), timeout=10) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pass_on(there)

    def _pass_on(self, there: socket.socket) -> None:
        ends = {self.connection: there, there: self.connection}
        while True:
            for end in select.select(list(ends), [], [])[0]:
                try:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)
                except OSError:
                    return


@contextmanager
def connect_proxy(known: Mapping[str, str]) -> Iterator[Proxy]:
    """A proxy that runs."""
    with Proxy(known) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()
