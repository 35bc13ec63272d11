"""compose.demo.yaml, as a person starts it: three hospitals train to the end, sealed, and go on after a `down`."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from docker.models.containers import Container

from polyward_server.hub import free_port
from tests.containers.deployed import says
from tests.support.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.containers]

FILE = Path(__file__).parents[2] / "deploy" / "compose.demo.yaml"
PROJECT = "polyward-test-demo"
HOSPITALS = ("north", "south", "east")
PATIENCE_SECONDS = 180.0

CONNECTS = """
import socket
from concurrent.futures import ThreadPoolExecutor
def tried(place):
    try:
        socket.create_connection(place, 2).close()
        return "reached"
    except OSError:
        return "refused"
with ThreadPoolExecutor(32) as at_once:
    print(*at_once.map(tried, {places}))
"""
THROUGH_WAY = """
import socket
for place in {places}:
    with socket.create_connection(("way", 3128), 10) as way:
        way.sendall(f"CONNECT {{place}} HTTP/1.1\\r\\nHost: {{place}}\\r\\n\\r\\n".encode())
        print(way.recv(100).split()[1].decode())
"""
WRITES = """
for path in {paths}:
    try:
        open(path, "a").close()
        print("written")
    except OSError as error:
        print(error.strerror)
"""


@dataclass
class Demo:
    """The demonstration on ports of its own, with a smaller study."""

    engine: Engine
    folder: Path
    settings: dict[str, str]
    page: httpx.Client = field(init=False)
    signed_in: ExitStack = field(default_factory=ExitStack)

    def compose(self, *arguments: str) -> str:
        return self.engine.compose(FILE, *arguments, project=PROJECT, environment=self.settings)

    def up(self) -> None:
        """Returns when the study is in the queue, with a person signed in to the dashboard."""
        self.compose("up", "--detach")
        self._until_queued()
        authority = self.compose("exec", "-T", "hub", "cat", "/hub/ca.pem")
        url = f"https://localhost:{self.settings['POLYWARD_DASHBOARD']}"
        trust = ssl.create_default_context(cadata=authority)
        client = httpx.Client(base_url=url, verify=trust, headers={"origin": url}, timeout=20)
        self.page = self.signed_in.enter_context(client)
        password = self.compose("exec", "-T", "hub", "cat", "/hub/secrets/demo").strip()
        assert self.page.post("/sign-in", json={"name": "demo", "password": password}).status_code == 200

    def down(self, *arguments: str) -> None:
        self.signed_in.close()
        self.compose("down", "--timeout", "20", *arguments)

    def container(self, service: str) -> Container:
        (found,) = self._labelled(f"com.docker.compose.service={service}")
        return found

    def all(self) -> list[Container]:
        return self._labelled()

    def _labelled(self, *labels: str) -> list[Container]:
        wanted = [f"com.docker.compose.project={PROJECT}", *labels]
        found: list[Container] = self.engine.client.containers.list(all=True, filters={"label": wanted})
        return found

    def _until_queued(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (state := self.container("study").attrs["State"])["Status"] != "exited":
            assert time.monotonic() < deadline, self.compose("logs", "--tail", "20")
            time.sleep(0.3)
        assert state["ExitCode"] == 0, self.compose("logs", "study")

    def study(self, name: str) -> dict[str, Any]:
        rows = self.page.get("/api/studies").raise_for_status().json()["rows"]
        found: dict[str, Any] = next(row for row in rows if row["id"] == name)
        return found

    def until_finished(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (row := self.study(name))["state"] != "finished":
            assert row["state"] not in {"failed", "stopped"}, row
            assert time.monotonic() < deadline, self.compose("logs", "--tail", "20")
            time.sleep(0.3)
        return row


@pytest.fixture(scope="module")
def demo(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    text = (FILE.parent / "demo" / "study.toml").read_text(encoding="utf-8")
    small = text.replace("rounds = 6", "rounds = 3").replace("[48, 48]", "[32, 32]")
    assert small.count("rounds = 3") == small.count("[32, 32]") == 1
    (folder / "study.toml").write_text(small, encoding="utf-8")
    made = Demo(
        images,
        folder,
        {
            "POLYWARD_PORT": str(free_port()),
            "POLYWARD_DASHBOARD": str(free_port()),
            "POLYWARD_IMAGES": "60",
            "POLYWARD_STUDY": str(folder / "study.toml"),
        },
    )
    try:
        made.up()
        yield made
    finally:
        made.down("--volumes")
        assert not [name for name in volumes(images) if name.startswith(PROJECT)]


def volumes(engine: Engine) -> list[str]:
    return [str(volume.name) for volume in engine.client.volumes.list()]


def test_three_hospitals_with_different_tasks_train_to_the_end(demo: Demo) -> None:
    row = demo.until_finished("demo")
    assert (row["round"], row["rounds"], row["members"]) == (3, 3, 3)
    matrix = demo.page.get(f"/api/studies/{row['study']}/matrix").raise_for_status().json()
    owned = {
        name: {each["task"] for each in matrix["rows"] if each["site"] == name and each["branch"] != "none"}
        for name in HOSPITALS
    }
    assert owned == {
        "north": {"lesion_suspicious", "structures"},
        "south": {"lesion_suspicious", "grade", "organ_size"},
        "east": {"structures", "lesion_type"},
    }


def test_the_trainer_is_alone_with_images_that_it_cannot_change(demo: Demo) -> None:
    trainer = demo.container("north-trainer")
    gateway, hub = addresses(demo, "gateway"), addresses(demo, "hub")
    assert says(trainer, "import socket; print([name for _, name in socket.if_nameindex()])") == "['lo']"
    places = [(gateway[0], 443), (hub[0], 8443), (router(demo, "hub"), 22), ("gateway", 443), ("deb.debian.org", 443)]
    assert says(trainer, CONNECTS.format(places=places)).split() == ["refused"] * len(places)
    images = "import pathlib; print(len(list(pathlib.Path('/site/data/images').iterdir())) > 20)"
    assert says(trainer, images) == "True"
    paths = [
        "/site/data/manifest.csv",
        "/site/data/new",
        "/site/site.toml",
        "/site/state/approved/new",
        "/opt/polyward/new",
    ]
    assert says(trainer, WRITES.format(paths=paths)).splitlines() == ["Read-only file system"] * len(paths)


def test_the_gate_has_no_images_and_reaches_the_hub_alone(demo: Demo) -> None:
    gate = demo.container("north-gate")
    seen = "import os; print(*(os.listdir(path) for path in ('/site/data', '/site/state/trainer')))"
    assert says(gate, seen) == "[] []"
    strangers = [(address, 3128) for address in addresses(demo, "south-way")]
    strangers += [(address, port) for address in addresses(demo, "hub") for port in (8443, 8444, 8445)]
    strangers += [(address, 443) for address in addresses(demo, "gateway")]
    strangers += [("gateway", 443), ("hub", 8445), ("deb.debian.org", 443)]
    with socket.create_server(("", 0)) as here:  # on this machine
        port = here.getsockname()[1]
        machine = [(router(demo, network), port) for network in ("hub", "north", "north-street")]
        assert says(demo.container("hub"), CONNECTS.format(places=machine[:1])) == "reached"
        refused = says(gate, CONNECTS.format(places=[*strangers, *machine])).split()
    assert refused == ["refused"] * len([*strangers, *machine])
    asked = ["gateway:443", "gateway:8443", "hub:8445", "south-way:3128", f"{addresses(demo, 'hub')[0]}:8443"]
    answers = says(gate, THROUGH_WAY.format(places=asked)).split()
    assert answers == ["200", *["403"] * (len(asked) - 1)]


def test_nobody_has_what_is_anothers(demo: Demo) -> None:
    for container in demo.all():
        service = container.labels["com.docker.compose.service"]
        held = {mount["Name"].removeprefix(f"{PROJECT}_") for mount in container.attrs["Mounts"] if "Name" in mount}
        owner = service.partition("-")[0]
        if service == "hub-init":
            assert held == {"hub", *(f"{name}-invitation" for name in HOSPITALS)}
        elif owner in HOSPITALS:
            assert {name.partition("-")[0] for name in held} == {owner}
        else:
            assert held == ({"hub"} if service in {"hub", "study"} else set())
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert service in {"hub-init", *(f"{name}-prepare" for name in HOSPITALS)} or not host["CapAdd"]


def test_it_goes_on_after_a_down_with_another_study(demo: Demo) -> None:
    demo.until_finished("demo")
    in_hub = ("exec", "-T", "hub")
    demo.compose(*in_hub, "polyward-hub", "extend", "/hub", "demo", "--rounds", "2", "--output", "/hub/longer.toml")
    longer = demo.folder / "longer.toml"
    longer.write_text(demo.compose(*in_hub, "cat", "/hub/longer.toml"), encoding="utf-8")
    node = "import hashlib; print(hashlib.sha256(open('/site/state/gate/node.key', 'rb').read()).hexdigest())"
    before = says(demo.container("east-gate"), node)
    demo.down()
    demo.settings["POLYWARD_STUDY"] = str(longer)
    demo.up()
    row = demo.until_finished("demo-2")
    assert (row["round"], row["rounds"], row["members"]) == (2, 2, 3)
    assert demo.study("demo")["state"] == "finished"
    assert says(demo.container("east-gate"), node) == before
    assert demo.page.get("/api/integrity").raise_for_status().json()["problem"] == ""


def addresses(demo: Demo, service: str) -> list[str]:
    """Of a running service, one on each of its networks."""
    networks = demo.container(service).attrs["NetworkSettings"]["Networks"]
    return [str(network["IPAddress"]) for network in networks.values()]


def router(demo: Demo, network: str) -> str:
    """The address that this machine has, or would have, on a network."""
    (pool,) = demo.engine.client.networks.get(f"{PROJECT}_{network}").attrs["IPAM"]["Config"]
    return str(pool["Gateway"])
