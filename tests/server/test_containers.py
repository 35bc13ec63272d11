"""What containers a hub's file asks for, and where each port is open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from polyward_server.containers import name_of, places, wanted_of
from polyward_server.hub import EVERYWHERE, Hub, init
from polyward_shared.containers import Mount
from polyward_shared.problems import Problem

HOST = "hub.example.org"
COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.hub.yaml"


@pytest.fixture(autouse=True)
def _somebody(tmp_path: Path) -> None:
    """Root owns what root's tests make, and no container works as root."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 10001, 10001)


def made(folder: Path, **changes: object) -> Hub:
    values: dict[str, object] = {"name": "test", "host": HOST, "port": 9443, **changes}
    hub = init(folder, **values)  # type: ignore[arg-type]
    if os.geteuid() == 0:
        os.chown(hub.folder, 10001, 10001)
    return hub


def test_sites_reach_two_ports_and_this_machine_alone_the_dashboard(tmp_path: Path) -> None:
    hub = made(tmp_path / "My Hub")
    [wanted] = wanted_of(hub)
    assert wanted.name == name_of(hub) == "polyward-hub-my-hub"
    assert wanted.ports == {9443: (EVERYWHERE, 9443), 9444: (EVERYWHERE, 9444), 9445: ("127.0.0.1", 9445)}
    assert wanted.command == ("serve", str(hub.folder))
    assert Mount(hub.folder, hub.folder, writable=True) in wanted.mounts
    assert [mount for mount in wanted.mounts if mount.writable] == [Mount(hub.folder, hub.folder, writable=True)]
    owner = hub.folder.stat()
    assert wanted.user == f"{owner.st_uid}:{owner.st_gid}"


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")])
def test_a_hub_of_this_machine_stays_so(tmp_path: Path, host: str, address: str) -> None:
    [wanted] = wanted_of(made(tmp_path / "hub", host=host))
    assert {place[0] for place in wanted.ports.values()} == {address}


def test_the_dashboard_is_where_its_host_says(tmp_path: Path) -> None:
    [wanted] = wanted_of(made(tmp_path / "open", dashboard_host=EVERYWHERE))
    assert wanted.ports[9445] == (EVERYWHERE, 9445)
    [wanted] = wanted_of(made(tmp_path / "name", dashboard_host="localhost"))
    assert wanted.ports[9445] == ("127.0.0.1", 9445)
    with pytest.raises(Problem, match="no address of this machine"):
        wanted_of(made(tmp_path / "lost", dashboard_host="nowhere.invalid"))


def test_with_a_gateway_sites_reach_its_port_alone(tmp_path: Path) -> None:
    hub = made(tmp_path / "hub", gateway="hub.example.org:443")
    own, gateway = wanted_of(hub, "9.9")
    assert own.ports == {9445: ("127.0.0.1", 9445)}
    assert list(gateway.ports.values()) == [(EVERYWHERE, 443)]
    assert gateway.mounts == ()
    assert own.networks == gateway.networks == (name_of(hub),)
    assert own.aliases == ("hub",)
    assert gateway.environment["POLYWARD_GATEWAY_FLEET"] == "hub:9443"
    assert gateway.environment["POLYWARD_GATEWAY_CONTROL"] == "hub:9444"
    assert own.image.endswith("polyward-hub:9.9")
    assert gateway.image.endswith("polyward-gateway:9.9")
    assert places([own, gateway]) == [(own.name, "127.0.0.1:9445"), (gateway.name, f"{EVERYWHERE}:443")]


def test_what_the_file_names_elsewhere_is_there_too_and_read_only(tmp_path: Path) -> None:
    hub = made(tmp_path / "hub")
    certificate, key = tmp_path / "hub.pem", hub.folder / "own.key"
    for path in (certificate, key):
        path.touch()
    with (hub.folder / "hub.toml").open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write(f'dashboard_certificate = "{certificate}"\ndashboard_key = "{key}"\n{text}')
    [wanted] = wanted_of(Hub(hub.folder))
    assert Mount(certificate, certificate) in wanted.mounts
    assert key not in {mount.source for mount in wanted.mounts}
    certificate.unlink()
    with pytest.raises(Problem, match="it is not there"):
        wanted_of(Hub(hub.folder))


def test_compose_says_the_same_of_the_containers(tmp_path: Path) -> None:
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    hub = made(tmp_path / "hub", port=8443, gateway="hub.example.org:443")
    for wanted, service in zip(wanted_of(hub), (services["hub"], services["gateway"]), strict=True):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "${POLYWARD_USER:-10001:10001}"
        assert not {"privileged", "cap_add", "devices", "network_mode", "pid"} & set(service)
        assert {int(port.rpartition(":")[2]) for port in service["ports"]} >= set(wanted.ports)
        inside = tuple("/hub" if word == str(hub.folder) else word for word in wanted.command)
        assert tuple(service.get("command", ())) == inside
        assert wanted.environment.items() >= service.get("environment", {}).items()
    writable = [mount["target"] for mount in services["hub"]["volumes"] if not mount.get("read_only")]
    assert writable == ["/hub"]
    assert services["hub"]["ports"][-1].startswith("${POLYWARD_DASHBOARD_ADDRESS:-127.0.0.1}:")
    assert services["gateway"]["profiles"] == ["gateway"]
