"""Stock Flower as its documentation starts it: SuperLink, SuperNodes, `flwr run`; TLS and node authentication on.

Everything is the default but the time that Flower would spend on installing dependencies for each run.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from polyward_server.hub import free_port
from polyward_shared import pki
from tests.bench.plain_flower.server_app import MARK
from tests.bench.running import Process, finished, peak_memory, running, start, wait_until

APP = Path(__file__).parent / "plain_flower"
START_SECONDS = 60.0
LAB = "lab"


@dataclass(frozen=True, slots=True)
class Plain:
    """Seconds from the end of one round to the end of the next, and peak memory in MB by process."""

    seconds: list[float]
    peaks: dict[str, float]


def plain_flower(folder: Path, *, sites: int, values: int, rounds: int, limit: float, warm_up: int = 1) -> Plain:
    """Runs FedAvg over one array of so many values with stock processes."""
    folder.mkdir(parents=True)
    port = free_port()
    _write_certificates(folder)
    with running() as processes:
        superlink = start(_superlink(folder, port), folder / "superlink.log", FLWR_HOME=str(folder / "superlink"))
        processes.append(superlink)
        wait_until(lambda: _listens(port), START_SECONDS, "Flower's SuperLink", log=folder / "superlink.log")
        home = folder / "cli"
        _write_cli_config(home, port, folder / "ca.pem")
        nodes: list[Process] = []
        for number in range(sites):
            public = _write_key(folder, number)
            finished(
                ["flwr", "supernode", "register", str(public), LAB], folder / "cli.log", seconds=60, FLWR_HOME=str(home)
            )
            log = folder / f"node{number}.log"
            nodes.append(start(_supernode(folder, port, number), log, FLWR_HOME=str(folder / f"node{number}")))
            processes.append(nodes[-1])
        config = f"rounds={rounds} sites={sites} values={values}"
        command = ["flwr", "run", str(APP), LAB, "--stream", "--run-config", config]
        printed = finished(command, folder / "run.log", seconds=limit, FLWR_HOME=str(home))
        moments = parsed(printed)
        if len(moments) != rounds + 1:
            raise RuntimeError(f"Flower ended {len(moments) - 1} of {rounds} rounds:\n{printed[-3000:]}")
        peaks = {
            "ServerApp": max(moment["peak_mb"] for moment in moments),
            "SuperLink": peak_memory(superlink.pid),
            "node": peak_memory(nodes[0].pid),
        }
    return Plain(seconds_of(moments)[warm_up:], peaks)


def parsed(printed: str) -> list[dict[str, float]]:
    """The lines of `plain_flower.server_app.ended`, among whatever else was printed."""
    return [json.loads(line.split(MARK, 1)[1]) for line in printed.splitlines() if MARK in line]


def seconds_of(moments: Sequence[dict[str, float]]) -> list[float]:
    return [after["at"] - before["at"] for before, after in pairwise(moments)]


def _superlink(folder: Path, port: int) -> list[str]:
    return [
        "flower-superlink",
        *("--ssl-ca-certfile", str(folder / "ca.pem")),
        *("--ssl-certfile", str(folder / "server.pem")),
        *("--ssl-keyfile", str(folder / "server.key")),
        *("--host", "127.0.0.1", "--port", str(port)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def _supernode(folder: Path, port: int, number: int) -> list[str]:
    return [
        "flower-supernode",
        *("--root-certificates", str(folder / "ca.pem")),
        *("--superlink", f"127.0.0.1:{port}"),
        *("--port", str(free_port())),
        *("--auth-supernode-private-key", str(folder / f"node{number}.key")),
    ]


def _write_certificates(folder: Path) -> None:
    authority_key, authority = pki.new_authority("bench")
    key = pki.new_key()
    certificate = pki.new_server_certificate(["127.0.0.1", "localhost"], key, authority_key, authority)
    pki.write_secret(folder / "server.key", pki.key_to_pem(key))
    (folder / "server.pem").write_bytes(pki.certificate_to_pem(certificate))
    (folder / "ca.pem").write_bytes(pki.certificate_to_pem(authority))


def _write_key(folder: Path, number: int) -> Path:
    """A node's key in the form that Flower's command reads; returns the public half's file."""
    key = pki.new_key()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    pki.write_secret(folder / f"node{number}.key", private)
    public = folder / f"node{number}.pub"
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return public


def _write_cli_config(home: Path, port: int, ca: Path) -> None:
    home.mkdir()
    text = (
        f'[superlink]\ndefault = "{LAB}"\n[superlink.{LAB}]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{ca}"\n'
    )
    (home / "config.toml").write_text(text, encoding="utf-8")


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
