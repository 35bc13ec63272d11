"""From any message to one reply: every answer is a report or a code, and both are in the sent-ledger."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyward_client.approvals import Approval, write_approval
from polyward_client.gate.gate import STATES_KEPT, Gate
from polyward_client.port.interface import Done, Progress, Watcher, Work
from polyward_client.site import Site
from polyward_shared.chain import read_chain
from polyward_shared.codec import decode, encode
from polyward_shared.messages import Kept, Kind, Metric, Order, Report, Stage
from polyward_shared.problems import Code, Problem
from polyward_shared.schema import ArraySpec, Flat, Schema
from polyward_shared.states import write_state
from polyward_shared.study import Study
from polyward_shared.wire import read_refusal, read_report
from tests.support.messages import message, order_message, spoiled, with_record, without
from tests.support.toy_trainer import ToyTrainer, first_state, toy_schema, toy_site, toy_study

STUDY = toy_study()
SCHEMA = toy_schema(STUDY, ("mask",))
BASE = first_state(SCHEMA)
TRAIN = Order(
    kind=Kind.TRAIN,
    study=STUDY.digest(),
    round=1,
    state_digest=SCHEMA.state_digest(BASE),
    payload=encode("float32", BASE, None),
)
JOIN = Order(kind=Kind.JOIN, study=STUDY.digest())


class Bench:
    """A gate with a toy trainer behind it."""

    def __init__(self, folder: Path, study: Study = STUDY) -> None:
        self.site: Site = toy_site(folder, "a", study, ("mask",))
        self.trainer = ToyTrainer(self.site, 2.0, {"mask": 8})
        self.progress: list[Progress] = []
        self.gate = Gate(self.site, self.trainer, watch=self.progress.append)

    def ask(self, order: Order | Message) -> Message:
        return self.gate.answer(order_message(order) if isinstance(order, Order) else order)

    def report(self, order: Order) -> Report:
        reply = self.ask(order)
        assert not reply.has_error(), reply.error
        return read_report(reply)

    def code(self, order: Order | Message) -> Code:
        """The one code of a refusal, which is also the last line of the ledger."""
        before = len(self.lines())
        reply = self.ask(order)
        assert reply.has_error()
        assert reply.error.reason in set(Code)
        assert not reply.has_content()
        code = read_refusal(reply)
        assert [line.get("code") for line in self.lines()[before:]] == [code]
        return code

    def lines(self) -> list[dict[str, Any]]:
        return list(read_chain(self.site.sent))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_join_tells_counts_schema_and_the_first_states_digest(bench: Bench) -> None:
    report = bench.report(JOIN)
    assert (report.samples, report.counts, report.schema) == (8, {"mask": 8}, SCHEMA.to_json())
    assert report.first == SCHEMA.group_digests(BASE)
    assert report.payload == b""
    with_state = bench.report(replace(JOIN, want_state=True))
    np.testing.assert_array_equal(decode("float32", with_state.payload, None), BASE)


@pytest.mark.parametrize("text", ["Smith, John 1950-01-01", "toy 1.0\ntraceback", "/data/smith.png", "x" * 201])
def test_of_a_trainers_software_only_names_and_versions_leave(bench: Bench, text: str) -> None:
    assert bench.report(JOIN).software == "toy 1.0, numpy 2.4.6"
    bench.trainer.software = text
    assert bench.report(JOIN).software == ""


def test_train_answers_with_the_update_and_the_ledger_holds_it(bench: Bench) -> None:
    report = bench.report(TRAIN)
    update = decode("float32", report.payload, None)
    np.testing.assert_array_equal(update, BASE + np.float32(0.5) * (2 - BASE))
    assert (report.round, report.attempt, report.state_digest) == (1, 1, TRAIN.state_digest)
    assert {metric.stage for metric in report.metrics} == {Stage.RECEIVED, Stage.TRAINED}
    assert [progress.phase for progress in bench.progress] == ["loading", "together", "checking"]
    [line] = bench.lines()
    assert (line["what"], line["bytes"]) == ("report", len(report.payload))
    assert line["sha256"] == hashlib.sha256(report.payload).hexdigest()
    assert line["metrics"] == [
        [m.task, m.split, m.stage, m.name, m.value, m.count, *(() if m.low is None else (m.low, m.high))]
        for m in report.metrics
    ]
    assert line["norm"] == pytest.approx(float(np.linalg.norm((update - BASE).astype(np.float64))))


def test_finish_sends_figures_and_no_arrays(bench: Bench) -> None:
    report = bench.report(replace(TRAIN, kind=Kind.FINISH, round=3))
    assert report.payload == b""
    assert {metric.stage for metric in report.metrics} == {Stage.FINAL}
    assert (report.steps, report.kept) == (0, {})


def test_steps_and_kept_models_leave_and_the_ledger_holds_them(bench: Bench) -> None:
    assert bench.report(TRAIN).steps == 1
    bench.trainer.kept = {"mask": "alone"}
    assert bench.report(replace(TRAIN, kind=Kind.FINISH, round=3)).kept == {"mask": "alone"}
    assert [(line["steps"], line["kept"]) for line in bench.lines()] == [(1, {}), (0, {"mask": "alone"})]


@pytest.mark.parametrize("kept", [{"mask": "ditto"}, {"grade": "alone"}])  # no such model here; no task of this site
def test_a_word_that_the_study_does_not_foresee_stays(bench: Bench, kept: dict[str, Kept]) -> None:
    bench.trainer.kept = kept
    assert bench.code(replace(TRAIN, kind=Kind.FINISH, round=3)) is Code.EGRESS_METRIC


def test_a_change_in_bfloat16_on_a_state_that_is_here(tmp_path: Path) -> None:
    study = toy_study(wire={"codec": "bfloat16"})
    bench = Bench(tmp_path, study)
    first = replace(TRAIN, study=study.digest())
    update = decode("bfloat16", bench.report(first).payload, BASE)
    np.testing.assert_allclose(update, BASE + 0.5 * (2 - BASE), rtol=2.0**-8)
    change = encode("bfloat16", BASE + 1, BASE)
    state = decode("bfloat16", change, BASE)
    second = replace(
        first,
        round=2,
        codec="bfloat16",
        payload=change,
        base_digest=first.state_digest,
        state_digest=SCHEMA.state_digest(state),
    )
    assert bench.report(second).state_digest == second.state_digest
    assert bench.code(replace(second, base_digest="e" * 64)) is Code.STATE_UNKNOWN
    assert bench.code(replace(second, payload=change[:-2])) is Code.MALFORMED_ORDER
    assert bench.code(replace(second, payload=change[:-1])) is Code.MALFORMED_ORDER
    assert bench.code(replace(second, base_digest="")) is Code.MALFORMED_ORDER
    assert bench.code(replace(second, base_digest=second.state_digest)) is Code.STATE_MISMATCH


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"study": "f" * 64}, Code.STUDY_NOT_APPROVED),
        ({"study": ""}, Code.STUDY_NOT_APPROVED),
        ({"state_digest": "f" * 64}, Code.STATE_MISMATCH),
        ({"payload": TRAIN.payload[:-4]}, Code.STATE_MISMATCH),
        ({"payload": TRAIN.payload + bytes(4)}, Code.STATE_MISMATCH),
        ({"payload": TRAIN.payload[:-1]}, Code.MALFORMED_ORDER),
        ({"payload": bytes(36)}, Code.STATE_MISMATCH),
        ({"payload": b""}, Code.STATE_UNKNOWN),
        ({"round": 4}, Code.POLICY),
        ({"round": 4, "kind": Kind.FINISH}, Code.POLICY),
        ({"codec": "float16"}, Code.MALFORMED_ORDER),
        ({"round": True}, Code.MALFORMED_ORDER),
        ({"attempt": 2**40}, Code.MALFORMED_ORDER),
    ],
)
def test_orders_that_are_not_answered(bench: Bench, change: dict[str, Any], code: Code) -> None:
    assert bench.code(replace(TRAIN, **change)) is code
    assert bench.trainer.trained == []
    assert not any(bench.site.spool.rglob("state-*"))


def test_a_hostile_state_that_is_not_finite_gives_no_update(bench: Bench) -> None:
    flat = np.full(9, np.nan, np.float32)
    payload = encode("float32", flat, None)
    order = replace(TRAIN, payload=payload, state_digest=SCHEMA.state_digest(flat))
    assert bench.code(order) is Code.EGRESS_NOT_FINITE


SPOILS: list[tuple[str, Callable[[Message], Message], Code]] = [
    ("code instead of an order", lambda m: message(RecordDict(), "train"), Code.UNKNOWN_MESSAGE),
    ("empty", lambda m: message(RecordDict(), "train.round"), Code.MALFORMED_ORDER),
    ("no header", lambda m: without(m, "order"), Code.MALFORMED_ORDER),
    ("another record", lambda m: with_record(m, "run", m.content.config_records["order"]), Code.MALFORMED_ORDER),
    ("another key", lambda m: spoiled(m, "order", "module", "os"), Code.MALFORMED_ORDER),
    ("a path", lambda m: spoiled(m, "order", "study", "../../approved/x"), Code.MALFORMED_ORDER),
    ("not finite", lambda m: spoiled(m, "order", "round", float("nan")), Code.MALFORMED_ORDER),
]


@pytest.mark.parametrize(("name", "spoil", "code"), SPOILS, ids=lambda value: value if isinstance(value, str) else "")
def test_hostile_messages_are_one_code_and_one_line(
    bench: Bench, name: str, spoil: Callable[[Message], Message], code: Code
) -> None:
    assert bench.code(spoil(order_message(TRAIN))) is code


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["protocol", "study", "round", "attempt", "state", "base", "codec", "want-state", "x"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70) | st.binary(max_size=3),
)
def test_any_header_gives_a_report_or_one_code(bench: Bench, key: str, value: Any) -> None:
    if key == "x" and value is None:
        return
    before = len(bench.lines())
    reply = bench.ask(spoiled(order_message(TRAIN), "order", key, value))
    assert reply.has_content() or reply.error.reason in set(Code)
    assert len(bench.lines()) == before + 1


@pytest.mark.parametrize("code", [Code.DATA, Code.OUT_OF_MEMORY, Code.CANCELLED])
@pytest.mark.parametrize("order", [JOIN, TRAIN, replace(TRAIN, kind=Kind.FINISH)])
def test_of_a_trainers_failure_the_code_leaves_and_the_detail_stays(bench: Bench, code: Code, order: Order) -> None:
    bench.trainer.fail = code
    reply = bench.ask(order)
    assert reply.error.reason == code
    assert "patient" not in str(reply.error.reason) + bench.site.sent.read_text()


def test_the_exception_of_a_bug_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(work: Work, watch: Watcher) -> Done:
        raise KeyError("patient 17")

    monkeypatch.setattr(bench.trainer, "train", bug)
    assert bench.code(TRAIN) is Code.INTERNAL
    assert "patient" not in bench.site.sent.read_text()


class Dishonest(ToyTrainer):
    """A trainer that hands over what it likes."""

    given: dict[str, Any] | None = None
    announced: str | None = None
    said: dict[str, Any] | None = None  # in place of what else it would tell

    def train(self, work: Work, watch: Watcher) -> Done:
        done = super().train(work, watch)
        if self.given is not None and done.update is not None:
            write_state(Path(done.update), self.given, {})
        done = done if self.announced is None else done.model_copy(update={"update": self.announced or None})
        return done.model_copy(update=self.said or {})


def arrays(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"encoder.w": np.ones((2, 3), np.float32), "encoder.b": np.ones(3, np.float32)}
    return {**plain, **{name.replace("__", "."): value for name, value in changes.items()}}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (arrays(branches__mask__w=np.ones(2, np.float32)), Code.EGRESS_SCHEMA),
        (arrays(encoder__b=np.ones(4, np.float32)), Code.EGRESS_SCHEMA),
        ({"encoder.b": np.ones(3, np.float32)}, Code.EGRESS_SCHEMA),
        (arrays(encoder__b=np.array([1, np.nan, 1], np.float32)), Code.EGRESS_NOT_FINITE),
        (arrays(encoder__b=np.full(3, 1e6, np.float32)), Code.EGRESS_NORM),
    ],
)
def test_a_compromised_trainer_gets_nothing_else_out(bench: Bench, given: dict[str, Any], code: Code) -> None:
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    trainer.given = given
    bench.gate = Gate(bench.site, trainer)
    assert bench.code(TRAIN) is code


@pytest.mark.parametrize(("announced", "code"), [("", Code.TRAINING_FAILED), ("none", Code.DATA), (".", Code.DATA)])
def test_an_update_that_is_not_there(bench: Bench, announced: str, code: Code) -> None:
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    trainer.announced = announced
    bench.gate = Gate(bench.site, trainer)
    assert bench.code(TRAIN) is code


@pytest.mark.parametrize("said", [{"steps": 2**39}, {"steps": -1}, {"kept": {"mask": "alone"}}])
def test_numbers_and_words_that_a_round_cannot_have(bench: Bench, said: dict[str, Any]) -> None:
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    trainer.said = said
    bench.gate = Gate(bench.site, trainer)
    assert bench.code(TRAIN) is Code.EGRESS_METRIC


def test_a_figure_of_a_model_that_the_study_does_not_have_stays(tmp_path: Path) -> None:
    study = toy_study(personal={"alone": False})
    bench = Bench(tmp_path, study)
    figure = Metric(task="mask", split="test", stage=Stage.ALONE, name="dice", value=0.5, count=8)
    bench.trainer.metrics = (figure,)
    assert bench.code(replace(TRAIN, study=study.digest())) is Code.EGRESS_METRIC
    bench = Bench(tmp_path / "with", STUDY)
    bench.trainer.metrics = (figure,)
    assert bench.report(TRAIN).metrics == (figure,)


PRECISE = toy_study(aggregation={"rule": "precision"})
PRECISE_SCHEMA = Schema(
    (*SCHEMA.arrays, ArraySpec("precision.encoder.w", (2, 3)), ArraySpec("precision.encoder.b", (3,)))
)


@pytest.mark.parametrize(("value", "code"), [(1.0, None), (1.1, Code.EGRESS_NORM), (-1.0, Code.EGRESS_NORM)])
def test_a_precision_is_one_in_the_mean(tmp_path: Path, value: float, code: Code | None) -> None:
    bench = Bench(tmp_path, PRECISE)
    write_approval(bench.site.approved, Approval(PRECISE, ("mask",), PRECISE_SCHEMA))
    trainer = Dishonest(bench.site, 2.0, {"mask": 8})
    precision = {"precision.encoder.w": np.full((2, 3), value), "precision.encoder.b": np.ones(3)}
    trainer.given = arrays() | {name: array.astype(np.float32) for name, array in precision.items()}
    bench.gate = Gate(bench.site, trainer)
    base = first_state(PRECISE_SCHEMA)
    order = replace(
        TRAIN,
        study=PRECISE.digest(),
        state_digest=PRECISE_SCHEMA.state_digest(base),
        payload=encode("float32", base, None),
    )
    if code is None:
        assert len(bench.report(order).payload) == 4 * PRECISE_SCHEMA.size
        assert bench.lines()[-1]["norm"] == pytest.approx(float(np.linalg.norm(1 - base[:9])))
    else:
        assert bench.code(order) is code


def test_figures_that_rest_on_few_cases_stay(bench: Bench) -> None:
    few = Metric(task="mask", split="test", stage=Stage.TRAINED, name="dice", value=0.5, count=4)
    bench.trainer.metrics = (few, replace(few, name="loss", count=5))
    assert [metric.name for metric in bench.report(TRAIN).metrics] == ["loss"]
    assert bench.lines()[-1]["suppressed"] == 1
    bench.trainer.metrics = (replace(few, name="patient_17"),)
    assert bench.code(replace(TRAIN, round=2)) is Code.EGRESS_METRIC


def test_too_few_labels_to_take_part(bench: Bench) -> None:
    bench.trainer.counts = {"mask": 4}
    assert bench.code(JOIN) is Code.POLICY
    assert bench.code(TRAIN) is Code.POLICY


def test_states_are_kept_for_the_next_change_and_no_longer(bench: Bench) -> None:
    for number in range(1, 4):
        flat = BASE + np.float32(number)
        order = replace(
            TRAIN, round=number, state_digest=SCHEMA.state_digest(flat), payload=encode("float32", flat, None)
        )
        bench.report(order)
    kept = {path.name for path in bench.site.spool.rglob("state-*")}
    wanted = {f"state-{SCHEMA.state_digest(BASE + np.float32(number))}.safetensors" for number in (2, 3)}
    assert kept == wanted
    assert len(kept) == STATES_KEPT


def test_a_state_that_is_here_need_not_be_sent_again(bench: Bench) -> None:
    whole = bench.report(TRAIN)
    again = bench.report(replace(TRAIN, attempt=2, payload=b""))
    assert (again.payload, again.attempt) == (whole.payload, 2)


def test_damaged_files_of_the_site_are_a_code(bench: Bench) -> None:
    bench.report(TRAIN)
    [state] = bench.site.spool.rglob("state-*")
    state.write_bytes(b"x")
    assert bench.code(replace(TRAIN, payload=b"")) is Code.DATA
    approval = bench.site.approved / f"{STUDY.digest()}.json"
    approval.write_text("{")
    assert bench.code(TRAIN) is Code.POLICY


def test_what_cannot_be_recorded_does_not_leave(bench: Bench) -> None:
    """A folder in the ledger's place stands for a disk that takes no more."""
    shutil.rmtree(bench.site.sent, ignore_errors=True)
    bench.site.sent.mkdir()
    reply = bench.ask(TRAIN)
    assert reply.error.reason == Code.DISK
    assert not reply.has_content()


def test_a_broken_ledger_is_not_gone_on_with(bench: Bench) -> None:
    bench.report(TRAIN)
    bench.report(TRAIN)
    bench.site.sent.write_text(bench.site.sent.read_text().replace('"samples":8', '"samples":9', 1))
    with pytest.raises(Problem, match="chain is broken"):
        Gate(bench.site, bench.trainer)


def test_the_ledger_holds_every_byte_of_a_report(bench: Bench) -> None:
    """A changed field of a report is a changed line: nothing leaves beside the record."""
    before: Flat | None = None
    for target in (1.0, 2.0):
        bench.trainer.target = target
        report = bench.report(TRAIN)
        payload = decode("float32", report.payload, None)
        assert before is None or not np.array_equal(before, payload)
        before = payload
    first, second = bench.lines()
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"seq", "at", "prev", "hash", "sha256", "metrics", "norm"}
