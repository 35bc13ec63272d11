"""From an invitation to online by one command, straight, through a hospital's HTTP proxy, and through one port."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from polyward_server.hub import free_port
from polyward_server.runner import session_of
from polyward_shared.invitation import Invitation, written
from polyward_shared.pki import write_secret
from polyward_shared.supervise import end_all, module
from tests.support.connect_proxy import connect_proxy
from tests.support.real_hub import RealHub, real_hub, until

pytestmark = pytest.mark.slow
GATEWAY = Path(__file__).parents[2] / "deploy" / "gateway" / "nginx.conf"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    with real_hub(tmp_path_factory.mktemp("hub")) as made:
        yield made


@contextmanager
def joined(invitation: Invitation, folder: Path, environment: Mapping[str, str] = {}) -> Iterator[None]:
    """The one command, while it runs."""
    write_secret(folder / "invitation", written(invitation).encode())
    command = module("polyward_client", "enrol", str(folder / "invitation"), "--folder", str(folder / "site"), "--run")
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
    try:
        yield
    finally:
        end_all([process], patience=20)


def is_online(hub: RealHub, name: str) -> bool:
    """On Flower's side and on the control plane."""
    with session_of(hub.hub) as session:
        keys = {node.public_key.decode() for node in session.nodes().values() if node.online}
    return hub.roster.keys().get(name) in keys and hub.is_here(name)


def test_one_command_brings_a_site_online(hub: RealHub, tmp_path: Path) -> None:
    with joined(hub.invite("straight"), tmp_path):
        until(lambda: is_online(hub, "straight"))
    until(lambda: not hub.is_here("straight"))


def test_revocation_is_heard_by_flower_too(hub: RealHub, tmp_path: Path) -> None:
    def known(public: str) -> bool:
        with session_of(hub.hub) as session:
            return any(node.public_key.decode() == public for node in session.nodes().values())

    with joined(hub.invite("bad"), tmp_path):
        until(lambda: is_online(hub, "bad"))
        public = hub.roster.keys()["bad"]
        hub.roster.revoke("bad")
        until(lambda: not known(public) and not hub.is_here("bad"), 5)
        until(lambda: "does not know this node's key" in (tmp_path / "node.log").read_text())


def test_through_a_proxy_that_alone_knows_the_hubs_name(hub: RealHub, tmp_path: Path) -> None:
    file = hub.hub.file
    there = {"address": f"hub.test:{file.port}", "control": f"hub.test:{file.control_port}"}
    with connect_proxy({"hub.test": "127.0.0.1"}) as proxy:
        environment = {"HTTPS_PROXY": proxy.address, "https_proxy": proxy.address, "NO_PROXY": "", "no_proxy": ""}
        with joined(hub.invite("behind").model_copy(update=there), tmp_path, environment):
            until(lambda: is_online(hub, "behind"))
        assert set(proxy.asked) == set(there.values())


def test_through_one_port(hub: RealHub, tmp_path: Path) -> None:
    """The gateway's configuration as it is delivered, with other ports."""
    assert shutil.which("nginx"), "nginx is missing; .ci/run installs it"
    port = free_port()
    text = GATEWAY.read_text(encoding="utf-8")
    for old, new in {
        "listen 443;": f"listen 127.0.0.1:{port};",
        "listen [::]:443;": "",
        "127.0.0.1:8443;": f"127.0.0.1:{hub.hub.file.port};",
        "127.0.0.1:8444;": f"127.0.0.1:{hub.hub.file.control_port};",
        "/run/polyward-gateway.pid": str(tmp_path / "pid"),
        "/var/log/nginx/polyward-gateway.log": str(tmp_path / "error.log"),
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
    gateway = subprocess.Popen(["nginx", "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"])
    there = {"address": f"127.0.0.1:{port}", "control": f"127.0.0.1:{port}"}
    try:
        with joined(hub.invite("narrow").model_copy(update=there), tmp_path):
            until(lambda: is_online(hub, "narrow"))
    finally:
        end_all([gateway])
