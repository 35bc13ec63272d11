"""A real SuperLink on loopback for tests: our own process, TLS, free ports, secrets in files."""

import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from polyward_server.flower.session import RunLost, Session
from polyward_server.flower.superlink import SuperLinkConfig, start
from tests.support.certificates import Authority

START_SECONDS = 20.0


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half of a node's key as an enrolment would hand it over."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Hub:
    """One SuperLink; it can be killed and started again on the same ports with the same secrets."""

    folder: Path
    port: int = field(default_factory=free_port)
    private_port: int = field(default_factory=free_port)
    private_secret: bytes = field(default_factory=lambda: secrets.token_hex(32).encode())
    superexec_secret: bytes = field(default_factory=lambda: secrets.token_hex(32).encode())
    authority: Authority = field(default_factory=Authority.create)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where gates connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def private_address(self) -> str:
        """Where only the hub itself connects."""
        return f"127.0.0.1:{self.private_port}"

    def write_config(self) -> Path:
        """Write the configuration and everything that it names; return its path."""
        certificate, key = self.authority.server()
        contents = {
            "certificate": certificate,
            "key": key,
            "ca": self.authority.pem,
            "superexec_secret": self.superexec_secret,
            "private_secret": self.private_secret,
        }
        paths = {}
        for name, content in contents.items():
            paths[name] = self.folder / name
            paths[name].write_bytes(content)
            paths[name].chmod(0o600)
        config = SuperLinkConfig(
            host="127.0.0.1",
            port=self.port,
            private_port=self.private_port,
            home=self.folder / "flwr",
            **paths,
        )
        target = self.folder / "superlink.json"
        target.write_text(config.model_dump_json())
        return target

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.process = start(self.write_config())
        deadline = time.monotonic() + START_SECONDS
        with self.session(patience=0.2) as session:
            while True:
                try:
                    session.nodes()
                except RunLost:
                    if time.monotonic() > deadline or self.process.poll() is not None:
                        raise
                    time.sleep(0.05)
                else:
                    return

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """End the process and return how many seconds it took."""
        if self.process is None:
            return 0.0
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(timeout=10)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None
        return time.monotonic() - began

    def session(self, *, patience: float = 5.0) -> Session:
        """Return a session that knows the secrets."""
        return Session(
            self.private_address,
            self.authority.pem,
            private_secret=self.private_secret,
            superexec_secret=self.superexec_secret,
            patience=patience,
        )
