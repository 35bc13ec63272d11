"""A trainer in an attacker's hands: it owns the spool and the port. The gate stays whole, and so do its own files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from polyward_client.gate.control import ControlLink
from polyward_client.gate.gate import Gate
from polyward_client.port.connect import RemoteTrainer
from polyward_client.port.interface import Done, Progress, Watcher, Work
from polyward_client.port.wires import SERVICE
from polyward_client.status import read_status, write_status
from polyward_shared.pki import key_to_pem, new_key, write_secret
from polyward_shared.problems import Code
from polyward_shared.states import read_state, write_state
from tests.client.gate.test_gate import BASE, JOIN, SCHEMA, TRAIN, Bench, Dishonest, arrays
from tests.support.toy_trainer import ToyTrainer

pytestmark = pytest.mark.filterwarnings(  # gRPC's own thread may look once more at a channel that was just closed
    "ignore:(?s).*Channel closed:pytest.PytestUnhandledThreadExceptionWarning"
)
NAME = "Smith^John"


class Planting(ToyTrainer):
    """Does something to its finished update before it names it, or names another."""

    plant: Callable[[Path], str | None] = lambda path: None

    def train(self, work: Work, watch: Watcher) -> Done:
        done = super().train(work, watch)
        named = type(self).plant(Path(str(done.update)))
        return done.model_copy(update={"update": named}) if named else done


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    write_secret(made.site.key, key_to_pem(new_key()))
    return made


def planted(bench: Bench, plant: Callable[[Path], str | None]) -> Bench:
    kind = type("Planted", (Planting,), {"plant": staticmethod(plant)})
    bench.gate = Gate(bench.site, kind(bench.site, 2.0, {"mask": 8}))
    return bench


def outside(path: Path) -> str:
    """A sound update, where the trainer has no business."""
    away = path.parents[3] / "gate" / "x.safetensors"
    write_state(away, arrays(), {})
    path.unlink()
    return str(away)


def above(path: Path) -> str:
    write_state(path.parents[1] / "x.safetensors", arrays(), {})
    return f"{path.parent}/../x.safetensors"


def linked(path: Path) -> None:
    outside(path)
    path.symlink_to(path.parents[3] / "gate" / "x.safetensors")


def linked_folder(path: Path) -> None:
    folder, away = path.parent, path.parents[3] / "gate"
    away.mkdir(exist_ok=True)
    path.rename(away / path.name)
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    folder.symlink_to(away)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def sparse(path: Path) -> None:
    os.truncate(path, 64 << 30)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def header(entries: dict[str, Any] | str) -> Callable[[Path], None]:
    """Another header before the same 36 bytes of arrays."""

    def write(path: Path) -> None:
        text = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + np.ones(9, "<f4").tobytes())

    return write


def entry(shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


ELSEWHERE: list[tuple[str, Callable[[Path], str | None]]] = [
    ("outside", outside),
    ("above", above),
    ("a link", linked),
    ("a folder that is a link", linked_folder),
    ("an endless device", endless),
    ("a pipe", pipe),
    ("a folder", folder),
    ("64 GiB", sparse),
    ("nothing", empty),
    ("huge shape", header({"encoder.w": entry([2**62, 2**62], 0, 24), "encoder.b": entry([3], 24, 36)})),
    ("a shape of 100,000 sides", header({"encoder.w": entry([2**62] * 100_000, 0, 24)})),
    ("a shape that numpy cannot have", header({"encoder.w": entry([1] * 65, 0, 4)})),
    ("beyond the end", header({"encoder.w": entry([2, 3], 16, 40), "encoder.b": entry([3], 24, 36)})),
    ("a header of 90 MB", header(" " * (90 << 20))),
    ("nested", header("[" * 100_000)),
]


@pytest.mark.parametrize(("name", "plant"), ELSEWHERE, ids=[name for name, _ in ELSEWHERE])
def test_what_is_no_update_in_the_spool_is_one_code_soon(
    bench: Bench, name: str, plant: Callable[[Path], str | None]
) -> None:
    began = time.monotonic()
    assert planted(bench, plant).code(TRAIN) is Code.DATA
    assert time.monotonic() - began < 5


def test_names_twice_and_places_that_overlap_are_the_schemas_arrays_and_no_more(bench: Bench) -> None:
    """JSON's last word counts, and the same bytes may serve two arrays: 36 bytes leave, all of the update's own."""
    twice = '{{"encoder.w":{},"encoder.w":{},"encoder.b":{}}}'.format(
        *(json.dumps(part) for part in (entry([9], 0, 36), entry([2, 3], 12, 36), entry([3], 12, 24)))
    )
    report = planted(bench, header(twice)).report(TRAIN)
    assert report.payload == np.ones(9, np.float32).tobytes()


CUTTING = """
import os, sys, threading
from pathlib import Path
import numpy as np
from polyward_client.gate.egress import check_state
from polyward_client.gate.spool import read_handed
from polyward_shared.problems import Problem
from polyward_shared.schema import ArraySpec, Schema
from polyward_shared.states import write_state

schema, spool = Schema((ArraySpec("encoder.w", (2048, 4096)),)), Path(sys.argv[1])
path = spool / "study" / "update.safetensors"
write_state(path, {"encoder.w": np.ones((2048, 4096), np.float32)}, {})
size = path.stat().st_size

def cut_and_grow():
    while True:
        os.truncate(path, 4096)
        os.truncate(path, size)

threading.Thread(target=cut_and_grow, daemon=True).start()
for _ in range(30):
    try:
        check_state(schema, read_handed(spool, "study", str(path), schema))
    except Problem:
        pass
"""


def test_an_update_that_is_cut_and_grows_while_it_is_read_kills_no_gate(tmp_path: Path) -> None:
    """A process that had mapped such a file would be ended by the system (SIGBUS)."""
    assert subprocess.run([sys.executable, "-c", CUTTING, str(tmp_path)], timeout=60, check=False).returncode == 0


def test_a_kept_state_that_was_changed_is_no_base_for_norms(bench: Bench) -> None:
    """Far from what the hub sent, the trainer's own state would make any update look near."""
    bench.report(TRAIN)
    [kept] = bench.site.spool.rglob(f"state-{TRAIN.state_digest}.safetensors")
    far = {name: array + np.float32(1e6) for name, array in read_state(kept).items()}
    write_state(kept, far, {})
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    trainer.given = far
    bench.gate = Gate(bench.site, trainer)
    again = replace(TRAIN, payload=b"", attempt=2)
    assert bench.code(again) is Code.STATE_UNKNOWN
    assert bench.code(replace(TRAIN, attempt=3)) is Code.EGRESS_NORM, "the whole state comes, and is kept anew"
    assert np.array_equal(SCHEMA.pack(read_state(kept)), BASE)


def test_a_link_in_a_drafts_place_leads_to_none_of_the_gates_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quickest attacker there can be: the draft has just been made, and its name leads to the gate's key."""
    make, planted_ones = tempfile.mkstemp, []

    def quick(prefix: str, dir: Path) -> tuple[int, str]:
        descriptor, name = make(prefix=prefix, dir=dir)
        if prefix.startswith(".state-"):
            Path(name).unlink()
            Path(name).symlink_to(bench.site.key)
            planted_ones.append(name)
        return descriptor, name

    key = bench.site.key.read_bytes()
    monkeypatch.setattr(tempfile, "mkstemp", quick)
    bench.code(TRAIN)
    assert planted_ones
    assert bench.site.key.read_bytes() == key
    assert bench.site.key.stat().st_mode & 0o777 == 0o600


def test_links_where_states_are_kept_are_replaced_and_not_followed(bench: Bench) -> None:
    key = bench.site.key.read_bytes()
    path = bench.site.spool / TRAIN.study / f"state-{TRAIN.state_digest}.safetensors"
    path.parent.mkdir(parents=True)
    path.symlink_to(bench.site.key)
    assert bench.code(replace(TRAIN, payload=b"")) is Code.DATA
    path.unlink(missing_ok=True)
    path.symlink_to(bench.site.gate / "nothing")
    bench.report(replace(TRAIN, attempt=2))
    assert not path.is_symlink()
    assert not (bench.site.gate / "nothing").exists()
    assert bench.site.key.read_bytes() == key


# --- what it says


@pytest.mark.parametrize("said", [{"samples": 2**62}, {"counts": {"mask": 2**40}}, {"samples": 2**70}])
def test_numbers_that_no_message_carries_stay(bench: Bench, said: dict[str, Any]) -> None:
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    trainer.said = {"samples": 2**20, **said} if "counts" in said else said
    bench.gate = Gate(bench.site, trainer)
    assert bench.code(TRAIN) is Code.EGRESS_METRIC


class Odd(ToyTrainer):
    """Tells of progress that no training makes."""

    def train(self, work: Work, watch: Watcher) -> Done:
        for epoch in (-1, 2**32, 2**70):
            watch(Progress(phase=NAME * 1000, epoch=epoch, epochs=-epoch))
        return super().train(work, watch)


def test_progress_beyond_all_bounds_is_told_within_them(bench: Bench) -> None:
    link = ControlLink(bench.site, "127.0.0.1:1", bench.gate.sent, cancel=lambda: None, wake=lambda: None)
    link.courses.begins(TRAIN.study, 2**39)

    phases: list[str] = []

    def watch(progress: Progress) -> None:
        write_status(bench.site, progress=progress)
        phases.append(read_status(bench.site)["progress"]["phase"])
        link.courses.progress(progress)

    bench.gate = Gate(bench.site, Odd(bench.site, 2.0, {"mask": 8}), watch=watch)
    assert bench.report(TRAIN).steps == 1
    assert phases == ["loading", *["working"] * 3, "together", "checking"]
    assert NAME not in bench.site.status.read_text() + bench.site.sent.read_text()


# --- the port itself, below our own serving end


Answer = Callable[[bytes], Iterator[bytes]]


@pytest.fixture
def port(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Callable[[bytes], Iterator[bytes]]], Bench]]:
    """The gate with a socket behind which anything answers."""
    bench.site.port.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(bench.site.port)
    server = grpc.server(ThreadPoolExecutor(4))
    remote = RemoteTrainer(bench.site.socket)

    def answering(answer: Answer) -> Bench:
        handler = grpc.unary_stream_rpc_method_handler(lambda ask, _: answer(ask))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Ask": handler}),))
        server.add_insecure_port(f"unix:{bench.site.socket.name}")
        server.start()
        bench.gate = Gate(bench.site, remote, watch=bench.progress.append)
        return bench

    yield answering
    remote.close()
    server.stop(grace=0).wait()


DONE = {"samples": 8, "counts": {"mask": 8}, "metrics": [], "update": "u", "seconds": 0.1}
ANSWERS = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"done": null, "smuggled": 1}',
    json.dumps({"done": {**DONE, "seconds": 1e999}}).encode(),
    json.dumps({"done": {**DONE, "samples": "9" * 5000}}).encode(),
    json.dumps({"done": {**DONE, "update": "\x00"}}).encode(),
    json.dumps({"done": {**DONE, "update": "x" * 100_000}}).encode(),
    json.dumps({"done": {**DONE, "counts": {NAME: 8}}}).encode(),
    json.dumps({"done": {**DONE, "kept": {NAME: "alone"}}}).encode(),
    json.dumps({"done": {**DONE, "metrics": [["mask", "val", "trained", NAME, 1.0, 8]]}}).encode(),
    json.dumps({"failed": {"code": "data", "detail": NAME * 10_000}}).encode(),
    json.dumps({"failed": {"code": NAME, "detail": ""}}).encode(),
    json.dumps({"progress": {"phase": "\ud800"}}).encode(),
    b"x" * (17 << 20),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=[f"{answer[:60]!r}" for answer in ANSWERS])
@pytest.mark.parametrize("order", [TRAIN, JOIN], ids=["train", "join"])
def test_answers_that_the_interface_does_not_know(port: Any, answer: bytes, order: Any) -> None:
    bench = port(lambda ask: iter((answer,)))
    assert bench.code(order) in {Code.INTERNAL, Code.DATA, Code.EGRESS_METRIC}
    assert NAME not in bench.site.sent.read_text()


def test_a_flood_of_progress_is_heard_to_its_end(port: Any) -> None:
    """Each is one small piece of work; what is not read yet waits with the sender."""
    told = json.dumps({"progress": {"phase": "together", "epoch": 1, "epochs": 2}}).encode()
    bench = port(lambda ask: iter([told] * 20_000 + [b'{"failed": {"code": "data", "detail": ""}}']))
    assert bench.code(TRAIN) is Code.DATA
    assert [each.phase for each in bench.progress] == ["loading", *["together"] * 20_000]


def test_a_trainer_that_never_answers_holds_no_pause_up(port: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def silent(ask: bytes) -> Iterator[bytes]:
        if b"cancel" in ask:
            ended.set()
            yield b'{"cancelled": true}'
            return
        while not ended.wait(0.02):
            yield b'{"progress": {"phase": "together"}}'
        yield b'{"failed": {"code": "cancelled", "detail": ""}}'

    monkeypatch.setattr("polyward_client.gate.permission.LOOK_SECONDS", 0.05)
    bench = port(silent)
    threading.Timer(0.3, bench.site.paused.touch).start()
    assert bench.code(TRAIN) is Code.PAUSED
