"""The walk-through at the head of `compose.hub.yaml`, as it stands there: a hub with a gateway in front of it."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from polyward_client.enrolment import fetch_authority
from polyward_server.hub import free_port
from polyward_shared.invitation import read_invitation
from tests.containers.deployed import OWNER
from tests.support.engine import Engine
from tests.support.real_hub import until

pytestmark = [pytest.mark.slow, pytest.mark.containers]
FILE = Path(__file__).parents[2] / "deploy" / "compose.hub.yaml"
PASSWORD = "correct horse battery staple\n"  # noqa: S105
PROJECT = "polyward-test-compose-hub"


class Place:
    """A folder with the compose file, `.env` and the hub's own folder."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder, self.port = engine, folder, free_port()
        shutil.copy(FILE, folder)
        (folder / "hub").mkdir(mode=0o700)
        os.chown(folder / "hub", OWNER, OWNER)
        settings = {
            "POLYWARD_USER": f"{OWNER}:{OWNER}",
            "COMPOSE_PROFILES": "gateway",
            "POLYWARD_ADDRESS": "127.0.0.1",
            "POLYWARD_GATEWAY_ADDRESS": "127.0.0.1",
            "POLYWARD_GATEWAY_PORT": str(self.port),
        }
        (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")

    def says(self, *words: str, typed: str = "") -> str:
        return self.engine.compose(self.folder / FILE.name, *words, project=PROJECT, typed=typed)


@pytest.fixture(scope="module")
def place(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(images, tmp_path_factory.mktemp("compose-hub"))
    made.says("run", "--rm", "-T", "hub", "init", "/hub", "--host", "hub", "--gateway", f"127.0.0.1:{made.port}")
    try:
        yield made
    finally:
        made.says("down", "--volumes")


def test_its_steps_lead_to_a_hub_that_sites_reach_by_one_port(place: Place) -> None:
    place.says(
        "run", "--rm", "-T", "hub", "user", "add", "/hub", "ada", "--role", "admin", "--password-stdin", typed=PASSWORD
    )
    place.says("up", "-d")
    hub = place.engine.client.containers.get(place.says("ps", "-q", "hub").strip())
    until(lambda: (hub.reload(), hub.attrs["State"]["Health"]["Status"] == "healthy")[1], 90)
    invited = read_invitation(place.says("exec", "-T", "hub", "polyward-hub", "invite", "/hub", "harbour"))
    assert invited.address == invited.control == f"127.0.0.1:{place.port}"
    authority = fetch_authority(invited)  # through the gateway, and it is the one that the invitation names
    trust = ssl.create_default_context(cadata=authority.decode())
    page = httpx.get("https://localhost:8445/healthz", verify=trust, trust_env=False)
    assert page.status_code == 200
