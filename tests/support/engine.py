"""A Docker engine of the tests' own, from Debian's packages: its own folder, socket and bridge.

`python -m tests.support.engine` starts it and leaves it running, and the tests then use that one; otherwise they start
it and end it themselves. What was built stays in its folder, so that a second run has its images at once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import docker

FOLDER = Path(os.environ.get("POLYWARD_ENGINE", "/var/tmp/polyward-engine"))  # noqa: S108  # large, and kept
BRIDGE, ADDRESS = "pwtest0", "172.31.255.1/24"
POOL = "base=10.213.0.0/16,size=24"  # of the networks that are made
PATIENCE_SECONDS = 60.0


def missing() -> str:
    """Why no engine can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    absent = [name for name in ("dockerd", "docker", "docker-compose", "ip", "iptables") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class Engine:
    """The engine in `folder`. It can be stopped, killed and started again; containers outlive none of these."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/docker.sock"
        self._pid = folder / "docker.pid"

    @cached_property
    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.address, timeout=120)

    def start(self) -> bool:
        """Whether it had to be started; otherwise it ran already."""
        if self._answers():
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make_bridge()
        command = ["dockerd", "--host", self.address, "--data-root", f"{self.folder}/data"]
        command += ["--exec-root", f"{self.folder}/run", "--pidfile", str(self._pid), "--bridge", BRIDGE]
        command += ["--default-address-pool", POOL]
        with (self.folder / "engine.log").open("ab") as log:
            # nobody's child: it may outlive who started it
            subprocess.run(["setsid", "--fork", *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=True)
        self._wait()
        return True

    def stop(self) -> None:
        """As at a shutdown of the machine: containers are told to end."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self._end(signal.SIGTERM)
        self.start()

    def docker(self, *arguments: str | Path, check: bool = True, within: float = 600.0) -> str:
        """What a `docker` command prints on stdout."""
        return self._run(["docker", *map(str, arguments)], {}, check, within)

    def compose(
        self,
        file: Path,
        *arguments: str,
        project: str,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        typed: str = "",
    ) -> str:
        """What `docker-compose` prints on stdout; it reads `typed`."""
        command = ["docker-compose", "--file", str(file), "--project-name", project, *arguments]
        return self._run(command, environment or {}, check, 900.0, typed)

    def _run(
        self, command: list[str], environment: Mapping[str, str], check: bool, within: float, typed: str = ""
    ) -> str:
        done = subprocess.run(
            command,
            env={**os.environ, "DOCKER_HOST": self.address, **environment},
            input=typed,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def _answers(self) -> bool:
        if not (self.folder / "docker.sock").exists():
            return False
        probe = subprocess.run(
            ["docker", "--host", self.address, "info", "--format", "{{json .ServerVersion}}"],
            capture_output=True,
            text=True,
            check=False,
        )
        return probe.returncode == 0 and bool(json.loads(probe.stdout or '""'))

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "engine.log").read_text()[-4000:]
            time.sleep(0.2)

    def _end(self, how: signal.Signals) -> None:
        pid = int(self._pid.read_text())
        os.kill(pid, how)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while _lives(pid):
            assert time.monotonic() < deadline, "the engine did not end"
            time.sleep(0.1)

    def _make_bridge(self) -> None:
        """A bridge of its own: another engine on this machine keeps its `docker0`."""
        if Path(f"/sys/class/net/{BRIDGE}").exists():
            return
        for step in (
            ["link", "add", "name", BRIDGE, "type", "bridge"],
            ["addr", "add", ADDRESS, "dev", BRIDGE],
            ["link", "set", "dev", BRIDGE, "up"],
        ):
            subprocess.run(["ip", *step], check=True)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # dead, and its parent has not looked yet


if __name__ == "__main__":
    here = Engine()
    print("started" if here.start() else "runs already", here.address)
