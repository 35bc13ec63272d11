"""Children are kept alive, ended with us, and never twice at once. Real processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from polyward_shared import supervise as module
from polyward_shared.problems import Problem
from polyward_shared.supervise import Child, Holder, end_all, holder, only_one, start, stop_holder, supervise

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
WATCHED = "from polyward_shared.supervise import end_with_parent; import time; end_with_parent(); time.sleep(60)"


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_dead_child_is_started_again_and_all_end_with_the_supervisor(tmp_path: Path) -> None:
    children = [Child(name, [sys.executable, "-c", SLEEP], tmp_path) for name in ("a", "b")]
    stop = threading.Event()
    supervisor = threading.Thread(target=supervise, args=(children, stop), kwargs={"tick": 0.01})
    supervisor.start()
    until(lambda: all(child.process is not None for child in children))
    first = children[0].process
    assert first is not None
    first.kill()
    until(lambda: children[0].process not in (first, None))
    assert children[0].deaths == 1
    stop.set()
    supervisor.join(10)
    for child in children:
        assert child.process is not None
        assert child.process.poll() == -signal.SIGTERM


def test_a_child_that_dies_young_waits_longer_each_time(tmp_path: Path) -> None:
    child = Child("a", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    stop = threading.Event()
    supervisor = threading.Thread(target=supervise, args=([child], stop), kwargs={"tick": 0.01})
    supervisor.start()
    until(lambda: child.deaths == 2)
    assert child.again_at > time.monotonic() + 0.5
    stop.set()
    supervisor.join(10)


PULSING = "from polyward_shared.supervise import came_round, send_pulse; import time; send_pulse(); "
BROKEN = "came_round(0.5); time.sleep(60)"  # a promise that is not kept, as by a main loop that hangs
KEPT = "\nwhile True: came_round(5); time.sleep(0.1)"


@contextmanager
def watched(folder: Path, code: str) -> Iterator[Child]:
    child, stop = Child("a", [sys.executable, "-c", PULSING + code], folder, watched=True), threading.Event()
    supervisor = threading.Thread(target=supervise, args=([child], stop), kwargs={"tick": 0.05})
    supervisor.start()
    try:
        until(lambda: child.silent is not None)
        yield child
    finally:
        stop.set()
        supervisor.join(10)


def test_a_child_that_hangs_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 2.0)
    with watched(tmp_path, KEPT) as child:
        time.sleep(3)
        assert child.deaths == 0, "it keeps its promise"
        first = child.process
        assert first is not None
        os.kill(first.pid, signal.SIGSTOP)
        until(lambda: child.process not in (None, first))
        assert first.returncode == -signal.SIGKILL
    with watched(tmp_path, BROKEN) as child:
        until(lambda: child.deaths > 0)


def test_after_a_pause_of_the_whole_machine_nobody_is_to_blame(tmp_path: Path) -> None:
    """Neither the supervisor looked nor the child spoke; the last look lies an hour back."""
    child = Child("a", [sys.executable, "-c", PULSING + KEPT], tmp_path, watched=True)
    process = start(child)
    assert child.pulse is not None
    try:
        os.set_blocking(child.pulse, True)
        assert os.read(child.pulse, 1), "it has begun"
        os.set_blocking(child.pulse, False)
        process.send_signal(signal.SIGSTOP)
        module._listen(child, 10.0)
        child.silent, child.looked = 0.0, 10.0
        module._listen(child, 3610.0)
        assert child.silent == module.PULSE_SECONDS
        assert process.poll() is None
    finally:
        end_all([process], patience=0.1)
        os.close(child.pulse)


def test_who_does_not_hear_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        end_all([None, deaf], patience=0.1)
        assert deaf.returncode == -signal.SIGKILL


def test_children_have_as_long_to_end_as_the_supervisor_is_patient(tmp_path: Path) -> None:
    """One needs half a second for what it is at, the other never ends."""
    slow = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): time.sleep(0.5); pathlib.Path('ended').touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); pathlib.Path('begun').touch(); time.sleep(60)"
    )
    for patience, ends in ((10.0, True), (0.05, False)):
        folder = tmp_path / str(patience)
        folder.mkdir()
        child, stop = Child("slow", [sys.executable, "-c", slow], folder), threading.Event()
        thread = threading.Thread(target=supervise, args=([child], stop), kwargs={"patience": patience})
        thread.start()
        until((folder / "begun").exists)
        stop.set()
        thread.join()
        assert (folder / "ended").exists() is ends


def test_a_child_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from polyward_shared.supervise import Child, start\n"
        f"print(start(Child('a', [sys.executable, '-c', {WATCHED!r}], Path('.'))).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert not gone(pid)
        supervisor.kill()
    until(lambda: gone(pid))


def test_a_child_sees_its_environment_and_folder(tmp_path: Path) -> None:
    code = "import os; open('seen', 'w').write(os.environ['POLYWARD_X'])"
    process = start(Child("a", [sys.executable, "-c", code], tmp_path, {"POLYWARD_X": "1"}))
    process.communicate(timeout=20)
    assert (tmp_path / "seen").read_text() == "1"


def test_only_one_holds_the_lock_and_can_be_asked_to_end(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    assert holder(lock) is None
    code = (
        "import sys, time; from pathlib import Path; from polyward_shared.supervise import only_one\n"
        "only_one(Path(sys.argv[1]), 'x'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert holder(lock) == Holder(process.pid, here=True)
        with pytest.raises(Problem, match=rf"already running \(process {process.pid}\)"):
            only_one(lock, "the hub")
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(Problem, match="did not end"):
            stop_holder(lock, "the hub", down="hub down", seconds=0.2)
        process.send_signal(signal.SIGCONT)
        until(lambda: process.poll() is not None)  # the SIGTERM that waited
    assert holder(lock) is None
    with pytest.raises(Problem, match="is not running"):
        stop_holder(lock, "the hub", down="hub down")
    os.close(only_one(lock, "the hub"))


def test_who_only_looks_at_a_lock_is_no_holder(tmp_path: Path) -> None:
    """Else `status` beside `stop` has the process killed whose number an earlier node left in the file."""
    lock = tmp_path / "run.lock"
    os.close(only_one(lock, "the node"))
    looker = os.open(lock, os.O_RDWR)
    fcntl.flock(looker, fcntl.LOCK_SH)
    assert holder(lock) is None
    release = threading.Timer(0.05, os.close, (looker,))
    release.start()
    os.close(only_one(lock, "the node"))
    release.join()


def test_without_a_supervisors_pipe_a_closed_input_is_no_end(tmp_path: Path) -> None:
    """As under systemd, which gives a process /dev/null to read."""
    code = WATCHED.replace("time.sleep(60)", "time.sleep(0.3); print('lives')")
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout == b"lives\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_child_may_be_another_user(tmp_path: Path) -> None:
    child = Child("a", ["/bin/sleep", "60"], Path("/"), user=1, group=2, groups=[3, 4], umask=0o027)
    process = start(child)
    status = Path(f"/proc/{process.pid}/status").read_text().split("\n")
    end_all([process])
    fields = {key: value.split() for key, _, value in (line.partition(":") for line in status)}
    assert (fields["Uid"], fields["Gid"], fields["Groups"]) == (["1"] * 4, ["2"] * 4, ["3", "4"])
    assert fields["Umask"] == ["0027"]


def held_by(written: str, lock: Path) -> int:
    """Holds the lock in this process, with what another one would have written."""
    lock.write_text(written)
    descriptor = os.open(lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_a_pid_of_a_container_is_left_alone(tmp_path: Path) -> None:
    """In there it may be 1, and here that is the machine's first process."""
    lock = tmp_path / "run.lock"
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as stranger:
        descriptor = held_by(f"{stranger.pid:<20}{'pid:[1]':<40}", lock)
        assert holder(lock) == Holder(stranger.pid, here=False)
        with pytest.raises(Problem, match=r"runs in a container[\s\S]*node down x"):
            stop_holder(lock, "the node", down="node down x")
        with pytest.raises(Problem, match=r"already running \(in a container\)"):
            only_one(lock, "the node")
        time.sleep(0.1)
        assert stranger.poll() is None
        stranger.kill()
    os.close(descriptor)


def test_a_lock_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    descriptor = held_by(f"{os.getpid():<20}", tmp_path / "run.lock")
    assert holder(tmp_path / "run.lock") == Holder(os.getpid(), here=True)
    os.close(descriptor)
