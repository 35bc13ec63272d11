"""A federation of real processes on this machine: a hub and a node for each site, over TLS on the loopback.

For trying out, for tests and for measuring. Everything goes through the same commands that people use; nothing of
the hub or the nodes runs in this process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import tomli_w

from polyward_client.site import HubAddress, Site, read_site
from polyward_server.enrolment import invite
from polyward_server.hub import Hub, free_port, init
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared.invitation import written
from polyward_shared.pki import write_secret
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from polyward_shared.supervise import end_all, module

PATIENCE_SECONDS = 20.0  # a node ends its own two processes first


@dataclass
class Processes:
    """A hub and nodes that run. Logs are in `folder`."""

    folder: Path
    hub: Hub
    sites: dict[str, Site]
    study_file: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Starts `hub`, or the node of a site."""
        if name == "hub":
            command = module("polyward_server", "serve", str(self.hub.folder))
        else:
            command = module("polyward_client", "run", str(self.sites[name].path))
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=quiet_environment())

    def stop(self, name: str) -> None:
        """Ends it as an operator would."""
        end_all([self.running.pop(name, None)], patience=PATIENCE_SECONDS)

    def part(self, name: str, module_name: str) -> psutil.Process:
        """The process that runs one of our modules for the hub or a site, such as `polyward_client.trainer`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for child in psutil.Process(self.running[name].pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if module_name in child.cmdline():
                        return child
            time.sleep(0.05)
        raise Problem(name, f"runs no {module_name}")

    def run(self) -> Ledger:
        """Queues the study at the hub, as `polyward-hub run --no-follow` does, and returns the hub's ledger."""
        command(*module("polyward_server", "run", "--no-follow", str(self.hub.folder), str(self.study_file)))
        return Ledger(self.hub.ledger)


@contextmanager
def federation(study: Study, sites: Sequence[Path], folder: Path) -> Iterator[Processes]:
    """Makes a hub, enrols the sites, approves the study, starts everything, and ends it at the end."""
    hub = init(
        folder / "hub",
        name=study.id,
        host="127.0.0.1",
        port=free_port(),
        control_port=free_port(),
        dashboard_port=free_port(),
    )
    study_file = folder / "study.toml"
    study_file.write_text(study_text(study), encoding="utf-8")
    derived = {site.name: site for site in (derive_site(path, folder / "sites", hub) for path in sites)}
    processes = Processes(folder, hub, derived, study_file)
    try:
        processes.start("hub")
        await_port(hub.file.port)
        for name, site in derived.items():
            enrol_site(hub, site)
            command(*module("polyward_client", "approve", "--yes", str(site.path), str(study_file)))
            processes.start(name)
        yield processes
    finally:
        end_all(list(processes.running.values()), patience=PATIENCE_SECONDS)


def derive_site(path: Path, folder: Path, hub: Hub) -> Site:
    """The site's file again, in a folder of its own in `folder`, with this hub's address and its own state there."""
    site = read_site(path)
    own = folder / site.name
    file = site.file.model_copy(
        update={
            "state": "state",
            "data": site.file.data.model_copy(update={"root": str(site.root.resolve())}),
            "hub": HubAddress(
                address=f"{hub.file.host}:{hub.file.port}", control=f"{hub.file.host}:{hub.file.control_port}"
            ),
        }
    )
    own.mkdir(parents=True, exist_ok=True)
    derived = own / "site.toml"
    derived.write_text(tomli_w.dumps(_without_none(file.model_dump(mode="json"))), encoding="utf-8")
    return read_site(derived)


def enrol_site(hub: Hub, site: Site) -> None:
    """As both sides do it, with an invitation that is approved beforehand."""
    ledger = Ledger(hub.ledger)
    invitation = hub.folder / f"{site.name}.invitation"
    write_secret(invitation, written(invite(hub, Roster(ledger), site.name, hours=1, approved=True)).encode())
    ledger.close()
    command(*module("polyward_client", "enrol", str(invitation), "--folder", str(site.path.parent)))


def await_port(port: int) -> None:
    """Returns when somebody listens there on the loopback. Raises `Problem` when time is up."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise Problem("the hub", "did not start", remedy="look at its log") from None
            time.sleep(0.05)
        else:
            return


def wait_for(ledger: Ledger, study: str, *, seconds: float, rounds: int | None = None) -> None:
    """Returns when the study has ended, or has committed `rounds` rounds. Raises `Problem` when time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state, reason = ledger.study_state(study)
        last = ledger.last_round(study)
        if state == "finished" or (rounds is not None and last is not None and last.number >= rounds):
            return
        if state in {"failed", "stopped"}:
            raise Problem(f"study {study[:12]}", f"{state}: {reason}")
        time.sleep(0.1)
    raise Problem(f"study {study[:12]}", f"has not ended after {seconds:.0f} s", remedy="look at the logs")


def command(*arguments: str) -> str:
    """Runs one of our commands to its end and returns what it printed. Raises `Problem` with its error."""
    done = subprocess.run(arguments, capture_output=True, text=True, env=quiet_environment(), check=False)
    if done.returncode:
        raise Problem(" ".join(arguments[2:]), done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout


def quiet_environment() -> Mapping[str, str]:
    """This process's environment, with logs that arrive as they are written."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def study_text(study: Study) -> str:
    """The study as a `study.toml` holds it."""
    return tomli_w.dumps(_without_none(study.model_dump(mode="json")))


def _without_none(value: object) -> dict[str, object]:
    """TOML has no null: an absent key says the same."""
    if not isinstance(value, dict):
        raise TypeError("expected a table")
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in value.items() if v is not None}
