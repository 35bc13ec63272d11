"""The hub's folder and its processes: made once by `init`, kept running by `serve`.

`serve` supervises four processes: Flower's SuperLink behind our door, the runner, which runs queued studies, the
control plane, and the dashboard. Any may be killed at any time; the ledger and the registry are all that counts.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from polyward_server.database import located, open_database
from polyward_server.flower.superlink import ALLOCATOR, SuperLinkConfig
from polyward_server.hub_file import TEMPLATE, HubFile
from polyward_server.migration import migrate
from polyward_server.people.users import nobody_may_sign_in
from polyward_shared import pki
from polyward_shared.problems import Problem
from polyward_shared.reading import read_toml, validated
from polyward_shared.supervise import Child, module, only_one, supervise
from polyward_shared.whole import write_whole

log = logging.getLogger(__name__)

LISTEN = "POLYWARD_LISTEN"  # environment, in a container: where all listen, since its engine decides who reaches them
EVERYWHERE = "0.0.0.0"  # noqa: S104  # sites must reach it


class Hub:
    """A hub's folder with its paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not (self.folder / "hub.toml").is_file():
            raise Problem(str(folder), "is not a hub's folder", remedy=f"make one: polyward-hub init {folder}")
        self.file = read_toml(self.folder / "hub.toml", HubFile)
        self.password = self.folder / "secrets" / "database"
        self.ledger = located(self.file.database or str(self.folder / "ledger.db"), self.password)
        self.registry = self.folder / "registry"
        self.ca = self.folder / "ca.pem"
        self.ca_key = self.folder / "secrets" / "ca.key"
        self.certificate = self.folder / "server.pem"
        self.key = self.folder / "secrets" / "server.key"
        self.private_secret = self.folder / "secrets" / "private"
        self.superexec_secret = self.folder / "secrets" / "superexec"
        self.metrics_secret = self.folder / "secrets" / "metrics"
        self.oidc_secret = self.folder / "secrets" / "oidc"
        self.lock = self.folder / "serve.lock"

    @property
    def private_address(self) -> str:
        return f"127.0.0.1:{self.file.private_port}"

    @property
    def addresses(self) -> tuple[str, str]:
        """Where sites reach it: for orders, updates and enrolment, and for the control plane."""
        file = self.file
        return file.gateway or f"{file.host}:{file.port}", file.gateway or f"{file.host}:{file.control_port}"


def init(
    folder: Path,
    *,
    name: str,
    host: str,
    port: int,
    control_port: int | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    gateway: str = "",
    certificate_days: float = 14.0,
    also: Sequence[str] = (),
) -> Hub:
    """A new hub: its file, its authority and server certificate, its secrets. Never overwrites anything."""
    if (folder / "hub.toml").exists():
        raise Problem(str(folder), "holds a hub already", remedy="choose another folder")
    values = {
        "name": name,
        "host": host,
        "port": port,
        "control_port": control_port or port + 1,
        "private_port": free_port(),
        "dashboard_host": dashboard_host,
        "dashboard_port": dashboard_port or (control_port or port + 1) + 1,
        "gateway": gateway,
        "certificate_days": certificate_days,
    }
    validated(values, HubFile, where=str(folder))
    authority_key, authority = pki.new_authority(f"{name} authority")
    server_key = pki.new_key()
    reached = [gateway.rpartition(":")[0].strip("[]")] if gateway else []
    hosts = list(dict.fromkeys([host, *reached, *also, "localhost", "127.0.0.1"]))
    certificate = pki.new_server_certificate(hosts, server_key, authority_key, authority)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pki.write_secret(folder / "secrets" / "ca.key", pki.key_to_pem(authority_key))
    pki.write_secret(folder / "secrets" / "server.key", pki.key_to_pem(server_key))
    pki.write_secret(folder / "secrets" / "private", secrets.token_hex(32).encode())
    pki.write_secret(folder / "secrets" / "superexec", secrets.token_hex(32).encode())
    (folder / "ca.pem").write_bytes(pki.certificate_to_pem(authority))
    (folder / "server.pem").write_bytes(pki.certificate_to_pem(certificate))
    text = TEMPLATE.format(
        folder=folder, host_shown=dashboard_host, **{key: json.dumps(value) for key, value in values.items()}
    )
    (folder / "hub.toml").write_text(text, encoding="utf-8")
    return Hub(folder)


def serve(hub: Hub, stop: threading.Event) -> None:
    """Runs the hub until `stop` is set. Raises `Problem` when it runs already."""
    only_one(hub.lock, str(hub.folder))  # held until this process ends
    if (copy := migrate(hub.ledger)) is not None:
        log.info("the ledger was brought to this version; as it was before: %s", copy)
    renew_certificate(hub)
    log.info("hub %s on %s:%d; stop it with Ctrl-C", hub.file.name, hub.file.host, hub.file.port)
    log.info("dashboard on https://%s:%d", hub.file.dashboard_host, hub.file.dashboard_port)
    _say_whether_shut(hub)
    superlink = Child("superlink", _superlink_command(hub), hub.folder, ALLOCATOR, watched=True)
    runner = Child("runner", module("polyward_server.runner", str(hub.folder)), hub.folder, ALLOCATOR, watched=True)
    control = Child("control", module("polyward_server.control", str(hub.folder)), hub.folder, ALLOCATOR, watched=True)
    dashboard = Child(
        "dashboard", module("polyward_server.dashboard", str(hub.folder)), hub.folder, ALLOCATOR, watched=True
    )
    supervise([superlink, runner, control, dashboard], stop)


def _say_whether_shut(hub: Hub) -> None:
    engine, provider = open_database(hub.ledger), hub.file.oidc
    with engine.connect() as db:
        shut = nobody_may_sign_in(db)
    engine.dispose()
    if not shut:
        return
    remedy = f"polyward-hub user add {hub.folder} NAME --role admin"
    if provider is None:
        log.warning("NOBODY CAN SIGN IN to the dashboard yet: %s", remedy)
    else:
        roles = ", ".join(provider.roles)
        log.warning(
            "NOBODY HAS A ROLE on the dashboard yet: the provider lets in those alone whose %r is one of %s; for "
            "anybody else: %s",
            provider.role_claim,
            roles,
            remedy,
        )


def renew_certificate(hub: Hub) -> None:
    """A new server certificate, for the same key and hosts, once half of the present one's life has passed.

    Sites trust the hub's authority, so they notice nothing. It takes a start of the hub in the half year after that.
    """
    present = pki.read_certificate(hub.certificate)
    if datetime.now(UTC) < pki.half_life(present):
        return
    key, authority = pki.read_key(hub.ca_key), pki.read_certificate(hub.ca)
    new = pki.new_server_certificate(pki.hosts_of(present), pki.read_key(hub.key), key, authority)
    write_whole(hub.certificate, pki.certificate_to_pem(new), mode=0o644)
    log.info("the hub's certificate is renewed; good until %s", new.not_valid_after_utc.isoformat(timespec="minutes"))


def free_port() -> int:
    """A port on the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _superlink_command(hub: Hub) -> list[str]:
    config = SuperLinkConfig(
        host=bind_address(hub.file.host),
        port=hub.file.port,
        private_port=hub.file.private_port,
        certificate=hub.certificate,
        key=hub.key,
        ca=hub.ca,
        ledger=hub.file.database or str(hub.folder / "ledger.db"),
        ledger_password=hub.password,
        superexec_secret=hub.superexec_secret,
        private_secret=hub.private_secret,
        home=hub.folder / "flower",
    )
    path = hub.folder / "superlink.json"
    path.write_text(json.dumps(config.model_dump(mode="json"), indent=1), encoding="utf-8")
    return module("polyward_server.flower.superlink", "--config", str(path))


def bind_address(host: str) -> str:
    """Where the servers for sites listen. Raises `Problem`."""
    return listening(reached_at(host))


def reached_at(host: str) -> str:
    """The address of this machine that is open to sites: loopback stays loopback, any other name means all."""
    return "127.0.0.1" if host == "localhost" else host if is_loopback(host) else EVERYWHERE


def is_loopback(host: str) -> bool:
    """Whether this name or address is the machine itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name


def listening(wanted: str) -> str:
    """Where a server listens that would listen on `wanted` outside a container. Raises `Problem`."""
    inside = os.environ.get(LISTEN, "")
    try:
        return str(ipaddress.ip_address(inside)) if inside else wanted
    except ValueError:
        raise Problem(f"the environment variable {LISTEN}", f"found {inside!r}", expected="an IP address") from None
