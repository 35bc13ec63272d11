"""The health endpoint: what it says, to whom, and that it never stands in the way of the gate."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyward_client.gate.health import answering, health_of
from polyward_client.port.interface import Progress
from polyward_client.site import Site, read_site
from polyward_client.status import write_status


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    path = tmp_path / "site.toml"
    path.write_text('name = "a"\n[hub]\naddress = "127.0.0.1:1"\n')
    found = read_site(path)
    for folder in (found.gate, found.port):
        folder.mkdir(parents=True)
    monkeypatch.chdir(found.port)
    return found


@pytest.fixture
def trainer(site: Site) -> Iterator[None]:
    """Somebody who listens where the trainer would."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(site.socket.name)
        listener.listen()
        yield


def asked(port: int, path: str = "/health") -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
        return error.code, json.loads(body) if body.startswith(b"{") else {}


@pytest.mark.usefixtures("trainer")
def test_a_node_that_works_also_while_its_people_pause_it(site: Site) -> None:
    site.paused.touch()
    write_status(site, progress=Progress(phase="training"))
    with answering(site, lambda: "online") as port:
        status, told = asked(port)
        assert asked(port, "/")[0] == 404
    assert status == 200
    assert (told["works"], told["link"], told["trainer"], told["paused"]) == (True, "online", True, True)
    assert told["free_bytes"] > 0
    assert 0 <= told["progress_seconds"] < 60
    assert told.keys() == {"works", "link", "trainer", "paused", "free_bytes", "progress_seconds"}


def test_a_trainer_that_is_gone(site: Site) -> None:
    with answering(site, lambda: "online") as port:
        status, told = asked(port)
    assert status == 503
    assert (told["trainer"], told["progress_seconds"]) == (False, None)


@pytest.mark.usefixtures("trainer")
def test_a_hub_that_is_out_of_reach(site: Site) -> None:
    assert not health_of(site, "hub unreachable", 0.0).works


def test_only_this_machine_is_answered_and_a_taken_port_is_no_end(site: Site) -> None:
    with answering(site, lambda: "online") as port:
        file = site.path.read_text() + f"[limits]\nhealth_port = {port}\n"
        site.path.write_text(file)
        with answering(read_site(site.path), lambda: "online") as second:
            assert second == 0
        addresses = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert f"0100007F:{port:04X}" in addresses
        assert f"00000000:{port:04X}" not in addresses
    assert os.getcwd() == str(site.port)
