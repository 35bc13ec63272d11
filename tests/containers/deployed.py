"""A hub and generated hospitals in containers on this machine, put up by the commands that people use."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docker.models.containers import Container

from polyward_client.site import Site
from polyward_deploy.processes import await_port, command, derive_site, enrol_site, study_text
from polyward_server.hub import Hub, free_port, init
from polyward_server.ledger import Ledger
from polyward_shared.study import Study
from polyward_shared.supervise import module
from tests.support.engine import ADDRESS, Engine

SCRIPTS = Path(__file__).parents[2] / "deploy" / "images"
BASE = "polyward-base:bookworm"
OWNER = 10001  # of the folders, so that nothing in a container is root
HOST = ADDRESS.partition("/")[0]  # this machine, as containers see it


def build_images(engine: Engine) -> None:
    """The base by debootstrap, unless it is there: nothing can be pulled. Our images upon it, where they changed.

    `POLYWARD_BUILT=1` takes those that are there.
    """
    if os.environ.get("POLYWARD_BUILT") == "1":
        return
    environment = {**os.environ, "DOCKER_HOST": engine.address, "DOCKER_BUILDKIT": "0"}
    if not engine.client.images.list(BASE):
        subprocess.run([SCRIPTS / "base", BASE], env=environment, check=True, timeout=900)
    subprocess.run([SCRIPTS / "build", "--base", BASE], env=environment, check=True, timeout=1800)


@dataclass
class Deployed:
    """A hub's folder and its sites', and their containers."""

    engine: Engine
    hub: Hub
    sites: dict[str, Site]
    study_file: Path

    def container(self, name: str, part: str = "") -> Container:
        """`hub`, or a part of a site's node."""
        called = f"polyward-hub-{self.hub.folder.name}" if name == "hub" else f"polyward-{name}-{part}"
        return self.engine.client.containers.get(called)

    def up(self, *names: str) -> None:
        """All of them at once."""
        self._say(names, "up")

    def down(self, *names: str) -> None:
        """All of them at once."""
        self._say(names, "down")

    def _say(self, names: tuple[str, ...], word: str) -> None:
        with ThreadPoolExecutor(len(names)) as at_once:
            list(at_once.map(lambda name: self._tell(name, word), names))

    def _tell(self, name: str, word: str) -> None:
        if name == "hub":
            command(*module("polyward_server", word, str(self.hub.folder)))
        else:
            command(*module("polyward_client", word, str(self.sites[name].path)))

    def crash(self, name: str, part: str = "") -> None:
        """Its first process dies, as by a fault: to the engine nobody wanted that, so it starts it again."""
        container = self.container(name, part)
        os.kill(int(container.attrs["State"]["Pid"]), signal.SIGKILL)

    def run(self) -> Ledger:
        command(*module("polyward_server", "run", "--no-follow", str(self.hub.folder), str(self.study_file)))
        return Ledger(self.hub.ledger)


@contextmanager
def deployed(engine: Engine, study: Study, sites: Sequence[Path], folder: Path) -> Iterator[Deployed]:
    """Everything is up and enrolled, the study approved; in the end all is taken down."""
    hub = init(
        folder / "hub",
        name=study.id,
        host=HOST,
        port=free_port(),
        control_port=free_port(),
        dashboard_port=free_port(),
    )
    Ledger(hub.ledger).close()
    study_file = folder / "study.toml"
    study_file.write_text(study_text(study), encoding="utf-8")
    derived = {site.name: site for site in (derive_site(path, folder / "sites", hub) for path in sites)}
    put = Deployed(engine, hub, derived, study_file)
    os.environ["DOCKER_HOST"] = engine.address
    try:
        own(hub.folder)
        put.up("hub")
        await_port(hub.file.port)
        for site in derived.values():
            enrol_site(hub, site)
            command(*module("polyward_client", "approve", "--yes", str(site.path), str(study_file)))
            own(site.path.parent)
        put.up(*derived)
        yield put
    finally:
        put.down(*derived, "hub")
        os.environ.pop("DOCKER_HOST")


def own(folder: Path) -> None:
    """Hands a folder and all in it to the user that the containers run as."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, OWNER, OWNER, follow_symlinks=False)


def says(container: Container, code: str, *, user: str = "") -> str:
    """What a line of Python prints inside a container."""
    done = container.exec_run(["/opt/polyward/bin/python", "-c", code], user=user)
    return str(done.output.decode()).strip()
