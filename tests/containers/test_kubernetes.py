"""The pods of deploy/kubernetes with the real images, on a network that holds nothing back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.pods import Machine
from tests.deploy.kustomized import Resource, built, pod_of
from tests.support.engine import Engine

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
WAIT = 180.0  # seconds, on a machine that has much else to do
# tries every kind of socket, and to leave by other ways; says what it got
ATTEMPTS = """
import ctypes, socket
for family in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"):
    try:
        socket.socket(getattr(socket, family), socket.SOCK_DGRAM)
        print(family)
    except OSError:
        pass
libc = ctypes.CDLL(None)
if libc.unshare(0x50000000) == 0:
    print("namespaces")
if libc.syscall(425, 8, ctypes.create_string_buffer(120)) >= 0:
    print("io_uring")
socket.socket(socket.AF_UNIX)
print("end")
"""


def workloads(folder: str) -> dict[str, Resource]:
    return {each["metadata"]["name"]: each for each in built(FOLDER / folder) if pod_of(each) is not None}


@pytest.fixture
def machine(images: Engine, tmp_path: Path) -> Machine:
    return Machine(images, tmp_path)


def furnish(machine: Machine) -> None:
    """The volumes, ConfigMap and Secret of a hospital."""
    tmp = machine.folder
    for folder in (tmp, *tmp.parents[:2]):
        folder.chmod(0o755)
    for claim in ("meeting", "gate", "trainer"):
        machine.volume(claim)
    machine.volume("data", {"manifest.csv": "image\n"}, mode=0o755)
    machine.volume("config-site", {"site.toml": (FOLDER / "north" / "site.toml").read_text()}, mode=0o755)
    machine.volume("secret-vault", {"key": f"polyward-vault-key {'5a' * 32}\n"})


@pytest.mark.slow
@pytest.mark.containers
def test_a_pods_trainer_has_no_network_though_the_pod_has(machine: Machine) -> None:
    node = workloads("north")
    with machine:
        furnish(machine)
        bare = machine.start(node["trainer"], profile=False)
        assert machine.exit_code(bare, within=WAIT) == 2
        assert "does not let it be isolated" in machine.engine.client.containers.get(bare).logs().decode()
        machine.engine.docker("rm", bare)

        trainer = machine.start(node["trainer"])
        assert machine.ends_well(trainer, "polyward-node", "health", "/site/site.toml", "trainer", within=WAIT)
        assert "eth0" in machine.engine.docker("exec", trainer, "ls", "/sys/class/net")
        assert machine.engine.docker("exec", trainer, "python3", "-c", ATTEMPTS).split() == ["end"]
        assert not machine.ends_well(trainer, "touch", "/site/data/x", within=1)
        assert not machine.ends_well(trainer, "touch", "/site/state/approved/x", within=1)
        assert not machine.ends_well(trainer, "touch", "/site/vault/x", within=1)


@pytest.mark.slow
@pytest.mark.containers
def test_a_node_of_pods_is_online_at_a_hub_of_pods(machine: Machine) -> None:
    node, hub = workloads("north"), workloads("hub")
    with machine:
        furnish(machine)
        machine.volume("hub")
        names = {"HUB_NAME": "hub", "HUB_GATEWAY": "hub.example.org:443"}
        serving = machine.start(hub["hub"], environment=names)
        listens = "import socket; socket.create_connection(('127.0.0.1', 8443), 1)"  # as the pod's readinessProbe asks
        assert machine.ends_well(serving, "python3", "-c", listens, within=WAIT)
        machine.start(hub["gateway"], alias="hub.example.org", environment={"POLYWARD_GATEWAY_LISTEN": "443"})
        invite = ("polyward-hub", "invite", "/hub", "north", "--pre-approved", "--output", "/hub/north")
        machine.engine.docker("exec", serving, *invite)
        machine.volume("secret-invitation", {"invitation": (machine.folder / "hub" / "north").read_text()})
        machine.start(node["way"])

        enrolled = machine.start(node["enrol"])
        said = machine.engine.client.containers.get(enrolled)
        assert machine.exit_code(enrolled, within=WAIT) == 0, said.logs().decode()
        assert {"ca.pem", "node.key", "node.pem"} <= {path.name for path in (machine.folder / "gate").iterdir()}

        trainer, gate = machine.start(node["trainer"]), machine.start(node["gate"])
        assert machine.ends_well(trainer, "polyward-node", "health", "/site/site.toml", "trainer", within=WAIT)
        online = machine.ends_well(gate, "polyward-node", "health", "/site/site.toml", "gate", within=WAIT)
        assert online, machine.engine.client.containers.get(gate).logs().decode()[-3000:]
        assert not machine.ends_well(gate, "ls", "/site/data", within=1)
        assert machine.engine.docker("exec", gate, "ls", "/site/state/trainer") == ""

        desk = machine.start(node["desk"])
        assert machine.ends_well(desk, "touch", "/site/state/approved/x", within=5)
        assert machine.engine.docker("exec", desk, "python3", "-c", ATTEMPTS).split() == ["end"]
