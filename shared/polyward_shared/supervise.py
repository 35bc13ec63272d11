"""Keeping our own child processes alive, and ending them with us.

A supervisor starts its children, starts them again when they die (slower each time they die young), and ends them on
SIGTERM or SIGINT. A child ends itself when its supervisor is gone, however that was killed.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polyward_shared.problems import Problem

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0  # from SIGTERM to SIGKILL
YOUNG_SECONDS = 10.0  # a child that dies younger waits before it is started again
LONGEST_WAIT = 15.0
LOOK_SECONDS = 0.3  # more than anybody takes to see whether a lock is held


@dataclass(slots=True)
class Child:
    """One process to keep alive: its name for the log, its command, where it works, and as whom if not as we do."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    group: int | None = None
    groups: Sequence[int] | None = None
    umask: int = -1
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    again_at: float = 0.0


def supervise(
    children: Sequence[Child], stop: threading.Event, *, tick: float = 0.2, patience: float = GRACE_SECONDS
) -> None:
    """Runs the children until `stop` is set, then ends them, all at once; `patience` is how long they may take."""
    try:
        while not stop.is_set():
            for child in children:
                _tend(child)
            stop.wait(tick)
    finally:
        end_all([child.process for child in children], patience=patience)


def start(child: Child) -> subprocess.Popen[bytes]:
    """Starts the child now; the child calls `end_with_parent` first thing."""
    environment = {**os.environ, **child.environment}
    child.process = subprocess.Popen(
        list(child.command),
        cwd=child.folder,
        env=environment,
        stdin=subprocess.PIPE,
        start_new_session=True,
        user=child.user,
        group=child.group,
        extra_groups=child.groups,
        umask=child.umask,
    )
    child.started = time.monotonic()
    return child.process


def end_all(processes: Sequence[subprocess.Popen[bytes] | None], *, patience: float = GRACE_SECONDS) -> None:
    """SIGTERM to all, a little patience with all, SIGKILL to those that stay."""
    alive = [process for process in processes if process is not None and process.poll() is None]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + patience
    for process in alive:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("process %d did not end within %.0f s; killed", process.pid, patience)
            process.kill()
            process.wait()
        _close(process)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def only_one(lock: Path, what: str) -> int:
    """Holds `lock` for this process's life and writes its pid into it. Raises `Problem` if another holds it."""
    import fcntl

    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOOK_SECONDS  # whoever only looks holds it for a moment, too
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                pid = os.read(descriptor, 20).decode().strip() or "?"
                os.close(descriptor)
                raise Problem(what, f"is already running (process {pid})", remedy="stop that one first") from None
            time.sleep(0.01)
    os.pwrite(descriptor, f"{os.getpid():<20}".encode(), 0)  # at once: never is there half of a number
    return descriptor


def holder(lock: Path) -> int | None:
    """The pid of the process that holds `lock` now, if any."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look are no holders
    except BlockingIOError:
        return int(os.read(descriptor, 20))
    finally:
        os.close(descriptor)
    return None


def stop_holder(lock: Path, what: str, *, seconds: float = 20.0) -> None:
    """Asks the process that holds `lock` to end and waits for it. Raises `Problem` if none runs, or it stays."""
    pid = holder(lock)
    if pid is None:
        raise Problem(what, "is not running", remedy="there is nothing to stop; was another folder meant?")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while holder(lock) is not None:
        if time.monotonic() > deadline:
            raise Problem(what, f"did not end within {seconds:.0f} s (process {pid})")
        time.sleep(0.05)


def run_child(
    name: str, work: Callable[[threading.Event], None], *, handlers: Sequence[logging.Handler] | None = None
) -> int:
    """A child's whole life: ends with its supervisor, logs under `name`, works until told to stop; its exit code.

    `handlers`, which bring their own format, take the place of plain lines on stderr.
    """
    end_with_parent()
    logging.basicConfig(level=logging.INFO, handlers=handlers, format=f"%(asctime)s {name} %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every poll otherwise
    try:
        work(stop_on_signals())
    except Problem as problem:
        log.error("%s", problem)
        return 2
    return 0


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


def _tend(child: Child) -> None:
    now = time.monotonic()
    if child.process is not None:
        code = child.process.poll()
        if code is None:
            return
        _close(child.process)
        child.process = None
        young = now - child.started < YOUNG_SECONDS
        child.deaths = child.deaths + 1 if young else 1
        wait = 0.0 if child.deaths == 1 else min(2.0 ** (child.deaths - 2), LONGEST_WAIT)
        child.again_at = now + wait
        log.warning("%s ended (%s); starting it again in %.0f s", child.name, code, wait)
    if now >= child.again_at:
        start(child)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def end_with_parent() -> None:
    """Called by a child: ends it at once when its standard input closes, which only the supervisor holds open.

    A process whose standard input is no pipe has no supervisor of ours, but systemd's or a container's.
    """
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
