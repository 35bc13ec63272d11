"""Processes of a bench: started with a log, watched, and ended by process id whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from polyward_shared.problems import Problem

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 5.0  # from SIGTERM to SIGKILL; a stock SuperLink would take thirty
LOG_SHOWN = 1500  # characters of a log in an error

Process = subprocess.Popen[bytes]


def environment(**more: str) -> Mapping[str, str]:
    """Ours for every process of a bench: no calls home, our modules and this installation's commands are found."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        **more,
    }


def start(command: Sequence[str], log: Path, *, folder: Path | None = None, **more: str) -> Process:
    """Starts a process; its standard input is a pipe that breaks when we die, which our own processes watch."""
    with log.open("ab") as file:
        return subprocess.Popen(
            list(command), cwd=folder, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment(**more)
        )


def end(processes: Sequence[Process]) -> None:
    """Ends these and everything that they started: first asked, then killed."""
    family: dict[int, psutil.Process] = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(process.pid)
            family |= {each.pid: each for each in [top, *top.children(recursive=True)]}
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.05)
    for each in family.values():
        with suppress(psutil.NoSuchProcess):
            each.kill()  # psutil looks at the time of creation too, so a reused id is not hit
    psutil.wait_procs(list(family.values()), timeout=PATIENCE_SECONDS)
    for process in processes:
        process.wait(PATIENCE_SECONDS)
        if process.stdin is not None:
            process.stdin.close()


@contextmanager
def running() -> Iterator[list[Process]]:
    """A list of processes to add to; all of them are ended when the block is left, by Ctrl-C too."""
    started: list[Process] = []
    try:
        yield started
    finally:
        end(started)


def wait_until(ready: Callable[[], bool], seconds: float, what: str, *, log: Path | None = None) -> float:
    """Seconds until `ready`, looking every 20 ms. Raises `Problem`, with the end of the log, when time is up."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > seconds:
            told = log.read_text(encoding="utf-8", errors="replace")[-LOG_SHOWN:] if log and log.exists() else ""
            raise Problem(what, f"did not happen within {seconds:.0f} s\n{told}")
        time.sleep(0.02)
    return time.monotonic() - began


def peak_memory(pid: int) -> float:
    """The most that the process ever had in memory, in MB (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise Problem(f"process {pid}", "has no VmHWM")


def finished(
    command: Sequence[str], log: Path, *, seconds: float, watch: Callable[[Process], None] = lambda _: None, **more: str
) -> str:
    """Runs a command to its end and returns what it printed. Raises `Problem` on failure or when time is up."""
    printed = log.with_suffix(".out")
    with printed.open("wb") as out, log.open("ab") as errors:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment(**more), cwd=REPOSITORY
        )
        try:
            deadline = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < deadline:
                watch(process)
                time.sleep(0.1)
            code = process.poll()
        finally:
            end([process])
    text = printed.read_text(encoding="utf-8", errors="replace")
    if code != 0:
        told = (log.read_text(encoding="utf-8", errors="replace") + text)[-LOG_SHOWN:]
        how = "took too long" if code is None else f"exit code {code}"
        raise Problem(Path(command[0]).name, f"{how}\n{told}")
    return text


class FamilyMemory:
    """The largest sum of resident memory, in MB, over a process and its descendants; shared pages count once.

    `Pss` is the kernel's own division of shared pages among those who share them: Ray's workers share much.
    """

    def __init__(self, every_seconds: float = 0.5) -> None:
        self.peak = 0.0
        self._every = every_seconds
        self._looked = 0.0
        self._lock = threading.Lock()

    def __call__(self, process: Process) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._looked < self._every:
                return
            self._looked = now
        total = 0
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(process.pid)
            for each in [top, *top.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    total += each.memory_full_info().pss
        self.peak = max(self.peak, total / 1e6)
