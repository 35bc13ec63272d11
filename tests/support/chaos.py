"""What befalls a hub: processes killed at any moment, a way that is cut, a disk that is full, a clock that jumps."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import tomli_w

from polyward_client.site import read_site
from polyward_deploy.processes import Processes
from polyward_server.ledger import Ledger

# libfaketime makes nonsense of clock_nanosleep, on which time.sleep stands, when the monotonic clock is left alone
SLEEP = "import threading, time\ntime.sleep = lambda seconds: threading.Event().wait(seconds) and None\n"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
SUPERLINK, RUNNER, CONTROL = "polyward_server.flower.superlink", "polyward_server.runner", "polyward_server.control"
SUPERVISOR = "the supervisor"


@dataclass(frozen=True)
class Blow:
    """One process killed, and how long it took until sites were asked again, in seconds from the restart."""

    part: str
    round: int
    asked_again: float | None = None  # None for a part that no round needs

    def __str__(self) -> str:
        took = "" if self.asked_again is None else f"asked again after {self.asked_again:.1f} s"
        return f"round {self.round:>3}  {self.part:<34} {took}".rstrip()


def strike(processes: Processes, ledger: Ledger, study: str, part: str, *, patience: float = 60.0) -> Blow:
    """Kills a part of the hub and waits until sites have been asked again."""
    last = ledger.last_round(study)
    number = last.number + 1 if last else 0
    if part == SUPERVISOR:
        kill_the_hub(processes)
        struck = time.time()
        processes.start("hub")
    else:
        struck = time.time()
        processes.part("hub", part).kill()
    if part == CONTROL:
        return Blow(part, number)
    return Blow(part, number, _asked_after(ledger, study, struck, patience) - struck)


def kill_the_hub(processes: Processes) -> None:
    """`kill -9` of the supervisor; its children must not survive it."""
    supervisor = psutil.Process(processes.running["hub"].pid)
    children = supervisor.children(recursive=True)
    supervisor.kill()
    processes.running.pop("hub").wait()
    _, alive = psutil.wait_procs(children, timeout=8)
    assert not alive, "a child outlived a supervisor that was killed"


def _asked_after(ledger: Ledger, study: str, moment: float, patience: float) -> float:
    """When the first site was asked after this moment, in Unix seconds; now, if the study ended without."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for noted in ledger.noted(study=study, last=200):
            at = datetime.fromisoformat(noted.at).timestamp()
            if at > moment and noted.event.what == "asked":
                return at
        if ledger.study_state(study)[0] == "finished":
            return time.time()
        time.sleep(0.05)
    raise AssertionError("no site was asked again")


class Way:
    """A port of the loopback that leads to another. Cut, it swallows everything, as a dead line does; healed, it has
    forgotten the connections of before, as a firewall does."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        for end in list(self._ends):
            _hang_up(end)
        self._open.set()

    def close(self) -> None:
        _hang_up(self._listener)
        self.heal()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(here,), daemon=True).start()

    def _join(self, here: socket.socket) -> None:
        self._ends.add(here)
        self._open.wait()
        try:
            there = socket.create_connection(("127.0.0.1", self._to), timeout=10)
        except OSError:
            self._done(here)
            return
        there.settimeout(None)
        self._ends.add(there)
        threading.Thread(target=self._pump, args=(there, here), daemon=True).start()
        self._pump(here, there)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._open.wait()
                sink.sendall(data)
        except OSError:
            pass
        self._done(source)
        self._done(sink)

    def _done(self, end: socket.socket) -> None:
        self._ends.discard(end)
        _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def rerouted(processes: Processes) -> Iterator[list[Way]]:
    """All sites reach the hub through ways of our own: of its port, and of its control plane's."""
    file = processes.hub.file
    ways = [Way(file.port), Way(file.control_port)]
    try:
        for name, site in processes.sites.items():
            processes.stop(name)
            text = tomllib.loads(site.path.read_text(encoding="utf-8"))
            text["hub"] = {
                "address": f"{file.host}:{ways[0].port}",
                "control": f"{file.host}:{ways[1].port}",
            }
            site.path.write_text(tomli_w.dumps(text), encoding="utf-8")
            processes.sites[name] = read_site(site.path)
            processes.start(name)
        yield ways
    finally:
        for way in ways:
            way.close()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """The folder as a disk of its own, as small as that."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No byte is left on the folder's disk meanwhile."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        yield
    finally:
        ballast.unlink()


@contextmanager
def clock(file: Path) -> Iterator[None]:
    """Processes that are started meanwhile take the time from the offset that the file says, such as +3h."""
    (file.parent / "sleep").mkdir()
    (file.parent / "sleep" / "sitecustomize.py").write_text(SLEEP, encoding="ascii")
    settings = {
        "PYTHONPATH": str(file.parent / "sleep"),
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    set_clock(file, "+0")
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def set_clock(file: Path, offset: str) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(offset, encoding="ascii")
    os.replace(draft, file)
