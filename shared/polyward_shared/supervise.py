"""Keeping our own child processes alive, and ending them with us.

A supervisor starts its children, starts them again when they die (slower each time they die young), and ends them on
SIGTERM or SIGINT. A child ends itself when its supervisor is gone, however that was killed. A child that is watched
sends a byte each second while its main loop keeps coming round; one that has fallen silent is killed.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from polyward_shared.problems import Problem

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0  # from SIGTERM to SIGKILL
YOUNG_SECONDS = 10.0  # a child that dies younger waits before it is started again
LONGEST_WAIT = 15.0
BEGUN_WAIT = 1.0  # of a child whose pulse was heard
PULSE_SECONDS = 1.0  # between the bytes of a child that is watched
SILENCE_SECONDS = 30.0  # of our own time without one, until the child counts as hung
PULSE = "POLYWARD_PULSE"  # environment: the descriptor that takes the bytes
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
    watched: bool = False  # for children that send a pulse
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    again_at: float = 0.0
    pulse: int | None = None  # where its bytes arrive
    silent: float | None = None  # seconds since the last; None until the first, for a start may take long
    looked: float = 0.0


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
    sends: list[int] = []
    if child.watched:
        child.pulse, end = os.pipe()
        os.set_blocking(child.pulse, False)
        os.set_blocking(end, False)  # a supervisor that reads no more holds nobody up
        environment[PULSE] = str(end)
        sends.append(end)
    try:
        child.process = subprocess.Popen(
            list(child.command),
            cwd=child.folder,
            env=environment,
            stdin=subprocess.PIPE,
            pass_fds=sends,
            start_new_session=True,
            user=child.user,
            group=child.group,
            extra_groups=child.groups,
            umask=child.umask,
        )
    finally:
        for end in sends:
            os.close(end)
    child.started = time.monotonic()
    child.silent = None
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
                held = _read_holder(descriptor)
                os.close(descriptor)
                raise Problem(what, f"is already running ({held})", remedy="stop that one first") from None
            time.sleep(0.01)
    os.pwrite(descriptor, f"{os.getpid():<20}{_pids():<40}".encode(), 0)  # at once: never is there half of a number
    return descriptor


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lock. `here`: its pid is one of ours, and not of a container, where all have others."""

    pid: int
    here: bool

    def __str__(self) -> str:
        return f"process {self.pid}" if self.here else "in a container"


def _pids() -> str:
    """Which pids those of this process are (`man 7 pid_namespaces`); empty where the system has one kind."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _read_holder(descriptor: int) -> Holder:
    written = os.pread(descriptor, 60, 0).decode()
    pid, pids = int(written[:20].strip() or 0), written[20:].strip()  # no second in the file of an earlier version
    return Holder(pid, here=pid != 0 and pids in {"", _pids()})


def holder(lock: Path) -> Holder | None:
    """The process that holds `lock` now, if any."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look are no holders
    except BlockingIOError:
        return _read_holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def stop_holder(lock: Path, what: str, *, down: str, seconds: float = 20.0) -> None:
    """Asks the process that holds `lock` to end and waits for it. Raises `Problem` if none runs, or it stays.

    One in a container is left alone, for its pid is a stranger's here; `down` is the command that stops that.
    """
    held = holder(lock)
    if held is None:
        raise Problem(what, "is not running", remedy="there is nothing to stop; was another folder meant?")
    if not held.here:
        raise Problem(what, "runs in a container", remedy=f"{down}, or docker compose down where compose started it")
    os.kill(held.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while holder(lock) is not None:
        if time.monotonic() > deadline:
            raise Problem(what, f"did not end within {seconds:.0f} s ({held})")
        time.sleep(0.05)


def run_child(
    name: str, work: Callable[[threading.Event], None], *, handlers: Sequence[logging.Handler] | None = None
) -> int:
    """A child's whole life: ends with its supervisor, logs under `name`, works until told to stop; its exit code.

    `handlers`, which bring their own format, take the place of plain lines on stderr.
    """
    end_with_parent()
    send_pulse()
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
            _listen(child, now)
            return
        _close(child.process)
        child.process = None
        if child.pulse is not None:
            os.close(child.pulse)
            child.pulse = None
        young = now - child.started < YOUNG_SECONDS
        child.deaths = child.deaths + 1 if young else 1
        wait = 0.0 if child.deaths == 1 else min(2.0 ** (child.deaths - 2), LONGEST_WAIT)
        if child.silent is not None:  # it had begun its work: something outside killed it, and may do so often
            wait = min(wait, BEGUN_WAIT)
        child.again_at = now + wait
        log.warning("%s ended (%s); starting it again in %.0f s", child.name, code, wait)
    if now >= child.again_at:
        start(child)


def _listen(child: Child, now: float) -> None:
    """Kills a child that has fallen silent. What counts is the time that we watched, look by look: after a pause of
    the whole machine both sides have been silent, and nobody is to blame."""
    if child.pulse is None:
        return
    try:
        heard = bool(os.read(child.pulse, 4096))
    except BlockingIOError:
        heard = False
    if heard:
        child.silent = 0.0
    elif child.silent is not None:
        child.silent += min(now - child.looked, PULSE_SECONDS)
        if child.silent > SILENCE_SECONDS and child.process is not None:
            log.warning("%s is hung; killed", child.name)
            child.process.kill()
    child.looked = now


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def came_round(within: float) -> None:
    """Said by a watched child's main loop: it is alive, and will say so again within so many seconds."""
    _promise[:] = [time.monotonic() + within]


_promise = [math.inf]  # until when the main loop comes round; of the process, which has one


def send_pulse() -> None:
    """Called by a child: from now on its supervisor hears that it lives, while it keeps what it promised."""
    if PULSE not in os.environ:
        return
    end = int(os.environ.pop(PULSE))
    os.set_inheritable(end, False)  # its own children have no part in it

    def beat() -> None:
        while True:
            if time.monotonic() < _promise[0]:
                with suppress(BlockingIOError, BrokenPipeError):
                    os.write(end, b".")
            time.sleep(PULSE_SECONDS)

    threading.Thread(target=beat, name="pulse", daemon=True).start()


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
