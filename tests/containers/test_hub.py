"""A hub put up by `polyward-hub up`: whom it lets near, commands beside it, and a newer version that does not start."""

from __future__ import annotations

import io
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from polyward_deploy.processes import command
from polyward_server.containers import name_of
from polyward_server.hub import Hub, free_port, init
from polyward_server.ledger import Ledger
from polyward_shared.invitation import read_invitation
from polyward_shared.problems import Problem
from polyward_shared.supervise import holder, module
from tests.containers.deployed import HOST, own
from tests.support.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.containers]
BROKEN = "0-broken"
DOCKERFILE = 'FROM {image}\nENTRYPOINT ["python", "-c", "print(\'I do not start\'); raise SystemExit(3)"]\n'


@pytest.fixture(scope="module")
def hub(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    os.environ["DOCKER_HOST"] = images.address
    folder = tmp_path_factory.mktemp("hub") / "Lone Hub"
    port, control, dashboard = free_port(), free_port(), free_port()
    made = init(folder, name="lone", host="127.0.0.1", port=port, control_port=control, dashboard_port=dashboard)
    Ledger(made.ledger).close()
    own(folder)
    try:
        says(made, "up")
        yield made
    finally:
        says(made, "down")


def says(hub: Hub, *words: str) -> str:
    return command(*module("polyward_server", words[0], str(hub.folder), *words[1:]))


def identity(images: Engine, hub: Hub) -> str:
    return str(images.client.containers.get(name_of(hub)).id)


def test_a_hub_of_this_machine_is_open_to_it_alone(images: Engine, hub: Hub) -> None:
    bindings = images.client.containers.get(name_of(hub)).attrs["HostConfig"]["PortBindings"]
    assert {place["HostIp"] for places in bindings.values() for place in places} == {"127.0.0.1"}
    trust = ssl.create_default_context(cadata=hub.ca.read_text())
    answer = httpx.get(f"https://127.0.0.1:{hub.file.dashboard_port}/healthz", verify=trust, trust_env=False)
    assert answer.status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, hub.file.dashboard_port), timeout=5).close()


def test_commands_go_on_working_beside_it_and_inside(images: Engine, hub: Hub, tmp_path: Path) -> None:
    held = holder(hub.lock)
    assert held is not None
    assert not held.here
    says(hub, "invite", "north", "--output", str(tmp_path / "north"))
    inside = images.docker("exec", name_of(hub), "polyward-hub", "invite", str(hub.folder), "south")
    token = {read_invitation(text).token for text in ((tmp_path / "north").read_text(), inside)}
    assert len(token) == 2
    with pytest.raises(Problem, match="runs in a container"):
        says(hub, "stop")
    assert "serving (in a container)" in says(hub, "status")


def test_what_runs_as_wanted_stays_and_other_settings_need_a_word(images: Engine, hub: Hub) -> None:
    before = identity(images, hub)
    says(hub, "up")
    assert identity(images, hub) == before
    file = hub.folder / "hub.toml"
    port = free_port()
    file.write_text(file.read_text().replace(f"dashboard_port = {hub.file.dashboard_port}", f"dashboard_port = {port}"))
    with pytest.raises(Problem, match="other settings"):
        says(hub, "up")
    assert f"127.0.0.1:{port}" in says(hub, "update")
    assert identity(images, hub) != before


def test_a_version_that_does_not_start_gives_way_to_the_one_before(images: Engine, hub: Hub) -> None:
    current = images.client.containers.get(name_of(hub)).image.id
    text = DOCKERFILE.format(image=current).encode()
    broken, _ = images.client.images.build(fileobj=io.BytesIO(text), tag=f"polyward-hub:{BROKEN}", rm=True)
    before = identity(images, hub)
    try:
        with pytest.raises(Problem, match="I do not start") as caught:
            says(hub, "update", "--image-version", BROKEN)
        assert "from before run again" in str(caught.value)
        assert identity(images, hub) == before
        assert images.client.containers.get(name_of(hub)).status == "running"
    finally:
        images.client.images.remove(broken.id, force=True)


def test_another_hub_of_the_same_name_is_left_alone(images: Engine, hub: Hub, tmp_path: Path) -> None:
    other = init(tmp_path / "lone hub", name="other", host="127.0.0.1", port=free_port())
    Ledger(other.ledger).close()
    own(other.folder)
    before = identity(images, hub)
    for word in ("up", "update", "down", "logs"):
        with pytest.raises(Problem):
            says(other, word)
    assert identity(images, hub) == before
