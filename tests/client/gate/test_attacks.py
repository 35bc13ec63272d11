"""What a hostile hub, a compromised trainer or a careless program may try: nothing leaves, and each is on record."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyward_client.decisions import Verdict, decide
from polyward_client.gate import permission
from polyward_client.gate.gate import Gate
from polyward_client.gate.permission import Permission
from polyward_client.gate.used import used_hours
from polyward_client.leaving import STATES_OF_A_ROUND
from polyward_client.port.interface import Done, Progress, Watcher, Work
from polyward_client.site import read_site
from polyward_client.status import write_status
from polyward_shared.codec import encode
from polyward_shared.messages import Kind, Order
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.states import write_state
from tests.client.gate.test_gate import BASE, JOIN, SCHEMA, STUDY, TRAIN, Bench, Dishonest, arrays
from tests.support.messages import order_message, spoiled
from tests.support.toy_trainer import ToyTrainer, toy_study

NAME = "Smith^John"
DIGEST = STUDY.digest()
FINISH = replace(TRAIN, kind=Kind.FINISH, round=3)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def from_state(number: int, offset: float) -> Order:
    """A round's order that starts from another state than all others."""
    flat = BASE + np.float32(offset)
    return replace(TRAIN, round=number, state_digest=SCHEMA.state_digest(flat), payload=encode("float32", flat, None))


def test_what_is_not_approved_is_not_trained(bench: Bench) -> None:
    other = toy_study(rounds=4).digest()
    for order in (JOIN, TRAIN, FINISH):
        assert bench.code(replace(order, study=other)) is Code.STUDY_NOT_APPROVED
    decide(bench.site.approved, Verdict.WITHDRAWN, study=DIGEST)
    assert [bench.code(order) for order in (JOIN, TRAIN, FINISH)] == [Code.WITHDRAWN] * 3
    decide(bench.site.approved, Verdict.REJECTED, study=DIGEST, reason=NAME)
    assert [bench.code(order) for order in (JOIN, TRAIN, FINISH)] == [Code.STUDY_NOT_APPROVED] * 3
    assert bench.trainer.trained == []
    assert NAME not in bench.site.sent.read_text(), "why it was rejected stays"


@pytest.mark.parametrize("extra", ['[\\"encoder.b\\",[3]],[\\"encoder.x\\",[9]]', '[\\"encoder.b\\",[4]]'])
def test_a_schema_that_grew_behind_the_approvers_back(bench: Bench, extra: str) -> None:
    """An approval's file is changed so that more may leave; the record of decisions knows the one that was seen."""
    path = bench.site.approved / f"{DIGEST}.json"
    text = path.read_text()
    path.write_text(text.replace('[\\"encoder.b\\",[3]]', extra))
    assert path.read_text() != text
    assert [bench.code(order) for order in (JOIN, TRAIN)] == [Code.POLICY, Code.POLICY]
    assert bench.trainer.trained == []


def test_the_same_order_again_is_the_same_answer_and_one_more_line(bench: Bench) -> None:
    first, again = bench.report(TRAIN), bench.report(TRAIN)
    assert first == again
    lines = bench.lines()
    assert len(lines) == 2
    assert lines[0]["sha256"] == lines[1]["sha256"]


def test_old_rounds_are_not_trained_again(bench: Bench) -> None:
    for number in (1, 2):
        bench.report(from_state(number, number / 8))
    trained = list(bench.trainer.trained)
    assert bench.code(from_state(1, 1 / 8)) is Code.POLICY
    assert bench.code(from_state(1, 9.0)) is Code.POLICY
    bench.gate = Gate(bench.site, bench.trainer)  # a gate that was started again remembers
    assert bench.code(from_state(1, 1 / 8)) is Code.POLICY
    assert bench.trainer.trained == trained
    bench.report(from_state(2, 2 / 8))


def test_one_round_from_ever_other_states(bench: Bench) -> None:
    """Differences between answers tell more of the images than one answer does."""
    for number in range(STATES_OF_A_ROUND):
        bench.report(from_state(1, number / 8))
    assert bench.code(from_state(1, 9.0)) is Code.POLICY
    assert len(bench.trainer.trained) == STATES_OF_A_ROUND


FORGED: list[tuple[str, Any]] = [
    ("study", DIGEST.upper()),
    ("study", DIGEST + "0"),
    ("study", f"{DIGEST[:-3]}/.."),
    ("round", -1),
    ("round", 1.0),
    ("round", "1"),
    ("state", "../state"),
    ("state", b"s"),
    ("base", NAME),
    ("codec", "pickle"),
    ("want-state", 1),
    ("protocol", 1),
    ("command", "rm"),
    ("metrics", [0.5]),
]


@pytest.mark.parametrize(("key", "value"), FORGED)
def test_forged_fields(bench: Bench, key: str, value: Any) -> None:
    assert bench.code(spoiled(order_message(TRAIN), "order", key, value)) is Code.MALFORMED_ORDER
    assert bench.trainer.trained == []


@pytest.mark.parametrize("number", [0, 4, 2**31 - 1])
@pytest.mark.parametrize("kind", [Kind.TRAIN, Kind.FINISH])
def test_rounds_that_the_study_does_not_have(bench: Bench, kind: Kind, number: int) -> None:
    assert bench.code(replace(TRAIN, kind=kind, round=number)) is Code.POLICY


BRANCH = np.array([[7, 7, 7]], np.float32)


@pytest.mark.parametrize(
    "given",
    [
        arrays(encoder__w=np.concatenate([np.ones((2, 3), np.float32), BRANCH])),
        arrays(encoder__w=np.ones((2, 3), np.float32).repeat(2, axis=1)),
        arrays(encoder__w=np.ones((1, 2, 3), np.float32)),
        arrays(encoder__extra=BRANCH),
        {**arrays(), "encoder.w ": BRANCH},
        {"encoder.W": np.ones((2, 3), np.float32), "encoder.b": np.ones(3, np.float32)},
    ],
    ids=["extra rows", "extra columns", "extra dimension", "extra array", "a name with a blank", "another name"],
)
def test_a_branch_smuggled_into_the_update_stays(bench: Bench, given: dict[str, Any]) -> None:
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    trainer.given = given
    bench.gate = Gate(bench.site, trainer)
    assert bench.code(TRAIN) is Code.EGRESS_SCHEMA


class Stowaway(ToyTrainer):
    """Writes bytes behind the arrays, and a text into the header, of an update that is sound otherwise."""

    def train(self, work: Work, watch: Watcher) -> Done:
        done = super().train(work, watch)
        path = Path(str(done.update))
        views = {name: np.ones_like(array) for name, array in SCHEMA.views(BASE).items()}
        write_state(path, views, {"patient": NAME})
        with path.open("ab") as file:
            file.write(NAME.encode() * 1000)
        return done


def test_what_is_beside_the_arrays_in_a_file_stays(bench: Bench) -> None:
    bench.gate = Gate(bench.site, Stowaway(bench.site, 2.0, {"mask": 8}))
    report = bench.report(TRAIN)
    assert report.payload == np.ones(SCHEMA.size, np.float32).tobytes()
    assert NAME not in str(report)


@pytest.mark.parametrize(
    ("value", "code"),
    [(np.nan, Code.EGRESS_NOT_FINITE), (np.inf, Code.EGRESS_NOT_FINITE), (1e30, Code.EGRESS_NORM)],
)
def test_values_that_are_no_weights_stay(bench: Bench, value: float, code: Code) -> None:
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    trainer.given = arrays(encoder__b=np.array([1, value, 1], np.float32))
    bench.gate = Gate(bench.site, trainer)
    assert bench.code(TRAIN) is code


def test_an_oversized_order_is_refused_before_it_is_kept(bench: Bench) -> None:
    assert bench.code(replace(TRAIN, payload=TRAIN.payload + bytes(1 << 24))) is Code.STATE_MISMATCH
    assert not any(bench.site.spool.rglob("state-*"))


class Talkative(ToyTrainer):
    """Tells of a patient wherever a text can be told."""

    error: Exception = KeyError(NAME)

    def train(self, work: Work, watch: Watcher) -> Done:
        watch(Progress(phase=f"reading /images/{NAME}.png", epoch=1, epochs=2))
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyError(NAME), Code.INTERNAL),
        (Problem(f"/images/{NAME}.png", "cannot be read"), Code.DATA),
        (OSError(5, "cannot be read", f"/images/{NAME}.png"), Code.DISK),
        (Refused(Code.TRAINING_FAILED, NAME), Code.TRAINING_FAILED),
    ],
)
def test_a_patients_name_in_an_exception_stays(bench: Bench, error: Exception, code: Code) -> None:
    trainer = Talkative(bench.site, 2.0, {"mask": 8})
    trainer.error = error
    bench.gate = Gate(bench.site, trainer, watch=lambda progress: write_status(bench.site, progress=progress))
    reply = bench.ask(TRAIN)
    assert reply.error.reason == code
    assert NAME not in str(reply)
    for path in bench.site.gate.iterdir():
        assert NAME.encode() not in path.read_bytes(), path.name
    assert '"working"' in bench.site.status.read_text()


@dataclass
class Slow(ToyTrainer):
    """Works until it is cancelled; a stubborn one finishes all the same."""

    stubborn: bool = False
    begun: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def train(self, work: Work, watch: Watcher) -> Done:
        self.begun.set()
        assert self.cancelled.wait(20)
        if self.stubborn:
            return super().train(work, watch)
        raise Refused(Code.CANCELLED, "at the end of a batch")

    def cancel(self) -> None:
        self.cancelled.set()


def withdrawn(bench: Bench) -> None:
    decide(bench.site.approved, Verdict.WITHDRAWN, study=DIGEST)


def paused(bench: Bench) -> None:
    bench.site.paused.touch()


def stricter(bench: Bench) -> None:
    bench.site.path.write_text(bench.site.path.read_text() + "[policy]\nminimum_sites = 9\n")


@pytest.mark.parametrize("stubborn", [False, True], ids=["cancelled", "finishes all the same"])
@pytest.mark.parametrize(("act", "code"), [(withdrawn, Code.WITHDRAWN), (paused, Code.PAUSED), (stricter, Code.POLICY)])
def test_what_is_taken_back_during_the_work_does_not_leave(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, act: Any, code: Code, stubborn: bool
) -> None:
    monkeypatch.setattr(permission, "LOOK_SECONDS", 0.02)
    trainer = Slow(bench.site, 2.0, {"mask": 8}, stubborn=stubborn)
    bench.gate = Gate(bench.site, trainer)

    def decision() -> None:
        assert trainer.begun.wait(20)
        act(bench)

    person = threading.Thread(target=decision)
    person.start()
    assert bench.code(TRAIN) is code
    person.join()
    assert used_hours(bench.site, DIGEST) > 0, "cancelled work counts too"


@pytest.mark.parametrize("act", [withdrawn, paused])
def test_work_that_a_killed_gate_left_behind_is_cancelled_too(bench: Bench, act: Any) -> None:
    """Its guard died with it; the next order finds that the site's people have taken the work back."""
    trainer = Slow(bench.site, 2.0, {"mask": 8})
    bench.gate = Gate(bench.site, trainer)
    act(bench)
    bench.code(TRAIN)
    assert trainer.cancelled.wait(5)


def test_a_cancellation_that_nobody_here_asked_for_is_told_as_such(bench: Bench) -> None:
    trainer = Slow(bench.site, 2.0, {"mask": 8})
    trainer.cancel()
    bench.gate = Gate(bench.site, trainer)
    assert bench.code(TRAIN) is Code.CANCELLED


def test_work_that_is_under_way_when_the_hours_end_is_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permission, "LOOK_SECONDS", 0.02)
    bench.site.path.write_text(bench.site.path.read_text() + '[policy]\nhours = ["22:00-06:00"]\n')
    trainer = Slow(bench.site, 2.0, {"mask": 8})
    bench.gate = Gate(read_site(bench.site.path), trainer)
    bench.gate.permission = Permission(
        bench.gate.site, clock=lambda: datetime(2026, 3, 1, 6 if trainer.begun.is_set() else 5, 0)
    )
    assert bench.code(TRAIN) is Code.POLICY
    assert trainer.cancelled.is_set()
    bench.report(JOIN)
