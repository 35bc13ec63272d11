"""Gate and trainer over a real Unix socket; the trainer also as a real process that is killed within its work."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pydantic import ValidationError

from polyward_client.port import connect
from polyward_client.port.connect import RemoteTrainer
from polyward_client.port.interface import Description, Done, Progress, Watcher, Work
from polyward_client.port.serve import serve
from polyward_client.port.wires import SERVICE, Ask, Reply, ask_from_bytes, reply_from_bytes, to_bytes
from polyward_client.site import Site
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.states import write_state
from tests.support.toy_trainer import ToyTrainer, first_state, toy_schema, toy_site, toy_study

pytestmark = pytest.mark.filterwarnings(  # gRPC's own thread may look once more at a channel that was just closed
    "ignore:(?s).*Channel closed:pytest.PytestUnhandledThreadExceptionWarning"
)
STUDY = toy_study()
SCHEMA = toy_schema(STUDY, ("mask",))
ROOT = Path(__file__).parents[3]
# Serves a toy trainer until it is killed. While there is no file `go`, work tells its progress and then hangs.
PROCESS = """
import os, sys, time
from pathlib import Path
from polyward_client.port.interface import Progress
from polyward_client.port.serve import serve
from polyward_client.site import read_site
from tests.support.toy_trainer import ToyTrainer

class Slow(ToyTrainer):
    def train(self, work, watch):
        with open("asked", "a") as file:
            file.write(f"{work.round}\\n")
        watch(Progress(phase="training", epoch=1, epochs=2))
        if Path("die").exists():
            os._exit(1)
        while not Path("go").exists():
            time.sleep(0.01)
        return super().train(work, watch)

server = serve(Slow(site := read_site(Path(sys.argv[1])), 2.0, {"mask": 8}), site.socket)
print("ready", flush=True)
server.wait_for_termination()
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = toy_site(tmp_path, "a", STUDY, ("mask",))
    made.port.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(made.port)  # a Unix socket's path must be short, so both processes work in its folder
    return made


@pytest.fixture
def work(site: Site) -> Work:
    flat = first_state(SCHEMA)
    path = site.spool / STUDY.digest() / "state.safetensors"
    write_state(path, SCHEMA.views(flat), {})
    return Work(study=STUDY.digest(), round=1, state=str(path), state_digest=SCHEMA.state_digest(flat))


@pytest.fixture
def remote(site: Site) -> Iterator[RemoteTrainer]:
    trainer = RemoteTrainer(site.socket)
    yield trainer
    trainer.close()


class Serving:
    """A trainer behind a real socket in this process."""

    def __init__(self, trainer: ToyTrainer) -> None:
        self.server = serve(trainer, trainer.site.socket)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.server.stop(grace=0).wait()


def quiet(_: Progress) -> None:
    """Nobody watches."""


def test_the_remote_trainer_answers_as_the_local_one(site: Site, work: Work, remote: RemoteTrainer) -> None:
    local = ToyTrainer(site, 2.0, {"mask": 8}, kept={"mask": "alone"})
    heard: list[Progress] = []
    with Serving(local):
        assert stat.S_IMODE((site.socket).stat().st_mode) == 0o600
        assert remote.describe(STUDY.digest()) == local.describe(STUDY.digest())
        assert remote.train(work, heard.append) == local.train(work, quiet)
        assert remote.train(work, quiet).steps == 1
        assert remote.finish(work, quiet) == local.finish(work, quiet)
        assert remote.finish(work, quiet).kept == {"mask": "alone"}
        assert heard == [Progress(phase="together", epoch=1, epochs=1)]
        remote.cancel()
        assert local.fail is Code.CANCELLED


@pytest.mark.parametrize("code", [Code.DATA, Code.OUT_OF_MEMORY])
def test_errors_cross_as_codes_with_their_detail(site: Site, work: Work, remote: RemoteTrainer, code: Code) -> None:
    """The detail is for the gate's local log; tests of the gate show that it goes no further."""
    with Serving(ToyTrainer(site, 2.0, {"mask": 8}, fail=code)):
        for ask in (lambda: remote.describe(STUDY.digest()), lambda: remote.train(work, quiet)):
            with pytest.raises(Refused) as caught:
                ask()
            assert (caught.value.code, caught.value.detail) == (code, "patient 17 is on this disk")


class Buggy(ToyTrainer):
    def describe(self, study: str) -> Description:
        raise ZeroDivisionError

    def train(self, work: Work, watch: Watcher) -> Done:
        watch(Progress(phase="training"))
        raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its traceback is the log line
def test_a_bug_in_the_trainer_ends_the_request(site: Site, work: Work, remote: RemoteTrainer) -> None:
    with Serving(Buggy(site, 2.0, {"mask": 8})):
        for ask in (lambda: remote.train(work, quiet), lambda: remote.describe(STUDY.digest())):
            with pytest.raises(Refused) as caught:
                ask()
            assert caught.value.code is Code.INTERNAL


def raw() -> tuple[grpc.Channel, grpc.UnaryStreamMultiCallable[Ask, Reply]]:
    """The port below `RemoteTrainer`, for gates that end within a request."""
    channel = grpc.insecure_channel("unix:trainer.sock")
    path = f"/{SERVICE}/Ask"
    return channel, channel.unary_stream(path, request_serializer=to_bytes, response_deserializer=reply_from_bytes)


def test_the_work_goes_on_when_the_gate_is_gone(site: Site, work: Work) -> None:
    go, done = threading.Event(), threading.Event()

    class Patient(ToyTrainer):
        def train(self, work: Work, watch: Watcher) -> Done:
            watch(Progress(phase="training"))
            go.wait(20)
            result = super().train(work, watch)
            done.set()
            return result

    with Serving(Patient(site, 2.0, {"mask": 8})):
        channel, ask = raw()
        next(iter(ask(Ask(what="train", work=work), timeout=20)))
        channel.close()
        go.set()
        assert done.wait(20)


def test_gates_that_come_and_go_do_not_use_up_the_trainers_threads(site: Site, work: Work) -> None:
    """Each asks for long work and goes; the next one is still heard."""
    go = threading.Event()

    class Endless(ToyTrainer):
        def train(self, work: Work, watch: Watcher) -> Done:
            watch(Progress(phase="training"))
            go.wait(20)
            return super().train(work, watch)

    with Serving(Endless(site, 2.0, {"mask": 8})):
        channel, ask = raw()
        for _ in range(6):
            stream = ask(Ask(what="train", work=work), timeout=20)
            next(iter(stream))
            stream.cancel()  # type: ignore[no-untyped-call]
        [reply] = list(ask(Ask(what="cancel"), timeout=20))
        assert reply.cancelled
        go.set()
        channel.close()


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


def trainer_process(site: Site, children: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(site.path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    children.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_a_trainer_killed_within_its_work_is_asked_again(
    site: Site, work: Work, remote: RemoteTrainer, children: list[subprocess.Popen[str]]
) -> None:
    first = trainer_process(site, children)
    told = threading.Event()
    answers: list[Done] = []
    asking = threading.Thread(target=lambda: answers.append(remote.train(work, lambda _: told.set())))
    asking.start()
    assert told.wait(20)
    first.kill()
    first.wait()
    Path("go").touch()
    trainer_process(site, children)
    asking.join(20)
    assert answers == [ToyTrainer(site, 2.0, {"mask": 8}).train(work, quiet)]
    assert Path("asked").read_text() == "1\n1\n"


def test_a_trainer_that_dies_over_each_request_is_given_up(
    site: Site,
    work: Work,
    remote: RemoteTrainer,
    children: list[subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "RESTARTS", 2)
    Path("die").touch()
    first = trainer_process(site, children)
    restart = threading.Thread(target=lambda: (first.wait(), trainer_process(site, children)))
    restart.start()
    with pytest.raises(Refused) as caught:
        remote.train(work, quiet)
    restart.join(20)
    assert caught.value.code is Code.TRAINER_DIED
    assert Path("asked").read_text() == "1\n1\n"


def test_a_trainer_that_never_starts_is_not_waited_for_without_end(
    work: Work, remote: RemoteTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "START_SECONDS", 0.2)
    with pytest.raises(Refused) as caught:
        remote.train(work, quiet)
    assert caught.value.code is Code.TRAINER_DIED


@pytest.mark.parametrize("said", [{"kept": {"mask": "patient 17"}}, {"steps": "many"}])
def test_what_the_interface_does_not_foresee_cannot_be_read(said: dict[str, object]) -> None:
    done = {"samples": 5, "counts": {"mask": 5}, "metrics": [], "update": None, "seconds": 0.1}
    assert reply_from_bytes(json.dumps({"done": done}).encode()).done == Done.model_validate(done)
    with pytest.raises(ValidationError):
        reply_from_bytes(json.dumps({"done": {**done, **said}}).encode())


def test_messages_are_the_interfaces_records(work: Work) -> None:
    row = Metric(task="mask", split="test", stage=Stage.FINAL, name="dice", value=0.1, count=5)
    sure = Metric(task="mask", split="test", stage=Stage.FINAL, name="loss", value=0.1, count=5, low=0.05, high=0.2)
    done = Done(
        samples=5, counts={"mask": 5}, metrics=(row, sure), update=None, seconds=0.1, steps=3, kept={"mask": "ditto"}
    )
    assert to_bytes(Reply(done=done)).count(b'"low"') == 1, "a figure without an interval is as long as before"
    for reply in (Reply(done=done), Reply(progress=Progress(phase="x", loss=None)), Reply(cancelled=True)):
        assert reply_from_bytes(to_bytes(reply)) == reply
    ask = Ask(what="train", work=work)
    assert ask_from_bytes(to_bytes(ask)) == ask
