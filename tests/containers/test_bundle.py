"""A hospital unpacks its folder and does what its README says, command by command; what that promises is looked at."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from polyward_client.site import read_site
from polyward_deploy.processes import command
from polyward_server.contacts import read_contacts
from polyward_server.hub import Hub, free_port, init
from polyward_server.ledger import Ledger
from polyward_shared.supervise import module
from tests.containers.deployed import HOST, own
from tests.federation.small import small_study
from tests.support.engine import Engine
from tests.support.real_hub import until

pytestmark = [pytest.mark.slow, pytest.mark.containers]
SITE = "harbour"
PATIENCE_SECONDS = 120.0
# `docker load`: the images are here; `manifest`: the generated images have one; `logs -f` has no end
LEFT_OUT = re.compile(r"docker (load|image)|run --rm manifest|logs -f")


@dataclass
class Hospital:
    """The unpacked folder."""

    folder: Path
    hub: Hub
    engine: Engine

    def run(self, line: str) -> str:
        """What a command of the README prints; as typed, but for the older name of compose."""
        done = subprocess.run(
            ["sh", "-c", line.replace("docker compose", "docker-compose")],
            cwd=self.folder,
            env={**os.environ, "DOCKER_HOST": self.engine.address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.stdout

    def is_online(self) -> bool:
        """At the hub, by way of its container's own tables, and with a trainer."""
        ledger = Ledger(self.hub.ledger)
        contact = read_contacts(ledger).get(SITE)
        ledger.close()
        return contact is not None and contact.connected and contact.status.get("state") == "idle"


def told(readme: str, indent: int) -> list[list[str]]:
    """The blocks of commands of the README that are so far to the right."""
    blocks = re.findall(rf"(?:^ {{{indent}}}\S.*\n)+", readme, re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in blocks]


@pytest.fixture(scope="module")
def hub(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """In its container, behind its gateway."""
    os.environ["DOCKER_HOST"] = images.address
    folder = tmp_path_factory.mktemp("hub") / "bundling"
    address = f"{HOST}:{free_port()}"
    made = init(
        folder,
        name="bundling",
        host=HOST,
        port=free_port(),
        control_port=free_port(),
        dashboard_port=free_port(),
        gateway=address,
    )
    Ledger(made.ledger).close()
    own(folder)
    try:
        command(*module("polyward_server", "up", str(folder)))
        yield made
    finally:
        command(*module("polyward_server", "down", str(folder)))


@pytest.fixture(scope="module")
def hospital(images: Engine, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Has its bundle, generated images, and a study to look at."""
    folder = tmp_path_factory.mktemp("hospital")
    study, sites = small_study(folder / "generated", rounds=1)
    site = next(read_site(path) for path in sites if path.stem == SITE)
    options = ["--pre-approved", "--bundle", "--output", str(folder / SITE)]
    command(*module("polyward_server", "invite", str(hub.folder), SITE, *options))
    bundle = folder / SITE
    shutil.copytree(site.root, bundle / "data", dirs_exist_ok=True)
    shutil.copy(folder / "generated" / "study.toml", bundle / "studies")
    text = (bundle / "site.toml").read_text()
    assert "tasks = []" in text
    (bundle / "site.toml").write_text(text.replace("tasks = []", f"tasks = {list(site.file.tasks)}"))
    for above in (bundle, *bundle.parents[:2]):
        above.chmod(0o711 if above != bundle else 0o700)
    made = Hospital(bundle, hub, images)
    try:
        yield made
    finally:
        made.run("docker compose down --volumes --timeout 5")
    assert study.rounds == 1


def test_the_readmes_steps_bring_the_node_online(hospital: Hospital) -> None:
    steps = [line for block in told((hospital.folder / "README.md").read_text(), 7) for line in block]
    todo = [line for line in steps if not LEFT_OUT.search(line) and not line.startswith("sed")]
    assert [line.split()[-1] for line in todo if " up " in line] == ["-d"]
    for line in todo:
        asks = "tool approve" in line  # whoever types is asked; a test says it beforehand
        said = hospital.run(f"{line}{' --yes' if asks else ''}; echo ended $?")
        assert said.endswith("ended 0\n"), f"{line}\n{said}"
    until(hospital.is_online, PATIENCE_SECONDS)
    until(lambda: hospital.run("docker compose ps").count("(healthy)") == 2, PATIENCE_SECONDS)


def test_what_the_readme_lets_anybody_see_is_so(hospital: Hospital) -> None:
    """Each line that begins with `docker` is typed; the line below it is what is seen."""
    shown = [block for block in told((hospital.folder / "README.md").read_text(), 4) if len(block) == 2]
    assert len(shown) == 5
    for typed, expected in shown:
        said = hospital.run(typed).strip().splitlines()
        assert " ".join(said[-1].split()) == " ".join(expected.split()), typed


def test_what_is_not_there_cannot_be_seen(hospital: Hospital) -> None:
    look = "docker compose exec -T"
    assert "Permission denied" in hospital.run(f"{look} gate ls /site/state/trainer")
    assert "No such file" in hospital.run(f"{look} trainer ls /site/state/gate")
    assert "Temporary failure in name resolution" in hospital.run(
        f"{look} gate python -c \"import socket; socket.gethostbyname('example.org')\""
    )
    for part in ("gate", "trainer", "way"):
        assert "Read-only file system" in hospital.run(f"{look} {part} touch /opt/polyward/new")
        assert "10001" in hospital.run(f"{look} {part} id -u")
        assert "CapEff:\t0000000000000000" in hospital.run(f"{look} {part} grep CapEff /proc/self/status")


def test_it_is_seen_to_pause(hospital: Hospital) -> None:
    hospital.run("docker compose run --rm tool pause site.toml")
    seen = "docker compose exec -T gate ls /site/state/paused"
    assert hospital.run(seen).strip() == "/site/state/paused"
    hospital.run("docker compose run --rm tool resume site.toml")
    assert "No such file" in hospital.run(seen)


def test_the_same_folder_serves_the_installed_command(hospital: Hospital) -> None:
    hospital.run("docker compose down --timeout 20")
    until(lambda: not hospital.is_online())
    site = hospital.folder / "site.toml"
    try:
        command(*module("polyward_client", "up", str(site)))
        until(hospital.is_online, PATIENCE_SECONDS)
    finally:
        command(*module("polyward_client", "down", str(site)))
