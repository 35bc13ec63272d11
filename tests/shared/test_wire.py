"""Orders and reports cross unchanged; anything else is one code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from polyward_shared.messages import Kind, Metric, Order, Report, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.tasks import METRICS
from polyward_shared.wire import (
    REFUSAL,
    SERIALISATION,
    payload_record,
    read_order,
    read_refusal,
    read_report,
    refusal_message,
)
from tests.support.messages import array, message, order_message, reply, spoiled, with_record, without

ORDER = Order(
    kind=Kind.TRAIN,
    study="a" * 64,
    round=3,
    attempt=2,
    state_digest="b" * 64,
    base_digest="c" * 64,
    codec="bfloat16",
    payload=b"\x00\x01",
)
REPORT = Report(
    kind=Kind.TRAIN,
    study="a" * 64,
    round=3,
    attempt=2,
    state_digest="b" * 64,
    codec="bfloat16",
    samples=7,
    counts={"mask": 5},
    metrics=(
        Metric("mask", "test", Stage.TRAINED, "dice", 0.5, 5),
        Metric("mask", "val", Stage.FINAL, "loss", 1.5, 6, low=1.25, high=2.0),
    ),
    seconds=1.25,
    steps=40,
    kept={"mask": "alone", "grade": "federated", "area": "ditto"},
    schema="[]",
    first={"encoder": "d" * 64},
    software="polyward 1",
    payload=b"\x00\x01\x02\x03",
)


@pytest.mark.parametrize("order", [ORDER, Order(kind=Kind.JOIN, study="a" * 64, want_state=True)])
def test_an_order_crosses_unchanged(order: Order) -> None:
    assert read_order(order_message(order)) == order


@pytest.mark.parametrize(
    "report", [REPORT, Report(kind=Kind.JOIN, study="a" * 64, round=0, attempt=1, state_digest="")]
)
def test_a_report_crosses_unchanged(report: Report) -> None:
    assert read_report(reply(report)) == report


def test_a_figure_without_an_interval_is_as_long_as_before() -> None:
    plain, bare = (set(reply(replace(REPORT, metrics=REPORT.metrics[n:][:1])).content["metrics"]) for n in (1, 0))
    assert bare == {f"{METRIC}/value", f"{METRIC}/count"}
    assert plain == {f"mask/val/final/loss/{part}" for part in ("value", "count", "low", "high")}


def test_the_value_may_lie_outside_its_interval() -> None:
    odd = replace(REPORT, metrics=(replace(REPORT.metrics[0], low=0.6, high=0.6),))
    assert read_report(reply(odd)) == odd


@pytest.mark.parametrize(("low", "high"), [(0.1, None), (None, 0.1)])
def test_half_an_interval_is_sent_as_it_is_and_refused(low: float | None, high: float | None) -> None:
    half = replace(REPORT, metrics=(replace(REPORT.metrics[0], low=low, high=high),))
    with pytest.raises(Refused) as caught:
        read_report(reply(half))
    assert caught.value.code is Code.MALFORMED_ORDER


def test_the_arrays_are_one_array_or_none() -> None:
    record = payload_record(b"abc")
    assert list(record) == ["state"]
    assert list(payload_record(b"")) == []


def test_a_refusal_is_its_code_and_nothing_more() -> None:
    order = order_message(ORDER)
    for code in Code:
        assert read_refusal(refusal_message(code, order)) is code
    forged = Message(Error(code=REFUSAL, reason="patient 17: no consent"), reply_to=order)
    assert read_refusal(forged) is Code.INTERNAL
    assert read_refusal(Message(Error(code=1, reason="policy"), reply_to=order)) is Code.INTERNAL


@pytest.mark.parametrize("kind", ["", "train", "train.round2", "query.join ", "evaluate", "query", "TRAIN.ROUND"])
def test_an_unknown_type_is_refused(kind: str) -> None:
    good = order_message(ORDER)
    good.metadata.__dict__["_message_type"] = kind
    with pytest.raises(Refused) as caught:
        read_order(good)
    assert caught.value.code is Code.UNKNOWN_MESSAGE


COUNTS: list[Any] = [-1, 2**31, 10**30, True, 1.0, "1", [1], float("nan"), b"1"]
TEXTS: list[Any] = ["A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "../../etc", 3, True, b"a" * 64]
PAYLOADS = [
    array("uint8", (2,), "numpy.ndarray", b"\x00\x01"),
    array("float32", (2,), SERIALISATION, b"\x00\x01"),
    array("uint8", (3,), SERIALISATION, b"\x00\x01"),
    array("uint8", (2, 1), SERIALISATION, b"\x00\x01"),
    array("uint8", (), SERIALISATION, b"\x00"),
    ArrayRecord({"other": payload_record(b"ab")["state"]}),
    ArrayRecord({"state": payload_record(b"ab")["state"], "more": payload_record(b"ab")["state"]}),
]
Spoil = Callable[[Message], Message]


def entry(record: str, key: str, value: Any) -> Spoil:
    return lambda good: spoiled(good, record, key, value)


def extra(name: str, record: ArrayRecord | MetricRecord | ConfigRecord) -> Spoil:
    return lambda good: with_record(good, name, record)


def lacking(name: str) -> Spoil:
    return lambda good: without(good, name)


BOTH: list[tuple[str, Spoil]] = [
    *[(f"{key} {value!r:.20}", entry("HEADER", key, value)) for key in ("round", "attempt") for value in COUNTS],
    *[(f"{key} {value!r:.20}", entry("HEADER", key, value)) for key in ("study", "state") for value in TEXTS],
    *[(f"protocol {value!r}", entry("HEADER", "protocol", value)) for value in (0, 1, 3, True, 2.0, "2")],
    *[(f"codec {value!r}", entry("HEADER", "codec", value)) for value in ("", "float16", "pickle", 3, ["float32"])],
    *[(f"no {key}", entry("HEADER", key, None)) for key in ("protocol", "study", "round", "attempt", "state", "codec")],
    ("another key", entry("HEADER", "note", "patient 17")),
    ("no header", lacking("HEADER")),
    ("no arrays", lacking("arrays")),
    ("header of another kind", extra("HEADER", MetricRecord({"protocol": 1}))),
    ("arrays of another kind", extra("arrays", ConfigRecord({"state": b"ab"}))),
    ("another record", extra("branches", ArrayRecord())),
    *[(f"payload {number}", extra("arrays", payload)) for number, payload in enumerate(PAYLOADS)],
]
ORDERS = [*BOTH, *[(f"want-state {value!r}", entry("order", "want-state", value)) for value in (1, "true", 0.0)]]
METRIC = "mask/test/trained/dice"
BOUNDED = "mask/val/final/loss"
REPORTS: list[tuple[str, Spoil]] = [
    *BOTH,
    *[(f"samples {value!r:.20}", entry("report", "samples", value)) for value in COUNTS],
    *[(f"seconds {v!r:.20}", entry("report", "seconds", v)) for v in (float("nan"), float("inf"), True, "1", 10**400)],
    ("long schema", entry("report", "schema", "x" * (1 << 21))),
    ("long software", entry("report", "software", "x" * 201)),
    *[(f"{key} {value!r}", entry("report", key, value)) for key in ("schema", "software") for value in ("\0", "a\nb")],
    *[(f"steps {value!r:.20}", entry("report", "steps", value)) for value in COUNTS],
    ("no steps", entry("report", "steps", None)),
    *[(f"kept {v!r:.20}", entry("kept", "mask", v)) for v in ("", "Alone", "alone ", "kept", "patient 17", 3, True)],
    *[(f"kept in bytes {v!r}", entry("kept", "mask", v)) for v in (b"alone", ["alone"], float("nan"))],
    *[(f"kept for {task!r:.20}", entry("kept", task, "alone")) for task in ("../x", "Mask", "", "m" * 41, "mask\n")],
    ("kept of another kind", extra("kept", MetricRecord({"mask": 1}))),
    ("count of no task", entry("counts", "../x", 3)),
    *[(f"count {value!r:.20}", entry("counts", "mask", value)) for value in COUNTS],
    *[(f"cases {value!r:.20}", entry("metrics", f"{METRIC}/count", value)) for value in COUNTS],
    *[
        (f"value {value!r:.20}", entry("metrics", f"{METRIC}/value", value))
        for value in (float("nan"), float("inf"), -float("inf"), True, "0.5", [0.5], 10**400)
    ],
    *[
        (f"{end} {value!r:.20}", entry("metrics", f"{BOUNDED}/{end}", value))
        for end in ("low", "high")
        for value in (float("nan"), float("inf"), -float("inf"), True, "0.5", [0.5], 10**400)
    ],
    ("no low", entry("metrics", f"{BOUNDED}/low", None)),
    ("no high", entry("metrics", f"{BOUNDED}/high", None)),
    ("low above high", entry("metrics", f"{BOUNDED}/low", 2.5)),
    ("interval of no figure", entry("metrics", "mask/val/final/dice/low", 0.5)),
    ("value without count", entry("metrics", f"{METRIC}/count", None)),
    ("count without value", entry("metrics", f"{METRIC}/value", None)),
    *[
        (key, entry("metrics", key, 0.5))
        for key in (
            "dice",
            "mask/train/trained/dice/value",
            "mask/test/later/dice/value",
            "mask/test/trained/patient 17/value",
            "mask/test/trained/dice/spread",
            "Mask/test/trained/dice/value",
            "mask/test/trained/dice/value/value",
            "mask/test/trained/dice/value\n",
        )
    ],
    ("first is no digest", entry("first", "encoder", "x")),
    ("first of a long name", entry("first", "e" * 61, "d" * 64)),
    *[(f"no {name}", lacking(name)) for name in ("first", "counts", "metrics", "kept")],
    ("metrics of another kind", extra("metrics", ConfigRecord())),
]


def renamed(spoil: Spoil, header: str, good: Message) -> Message:
    """`HEADER` in the tables above stands for the name of the header's record."""
    good.content["HEADER"] = good.content[header]
    del good.content[header]
    bad = spoil(good)
    if "HEADER" in bad.content:
        bad.content[header] = bad.content["HEADER"]
        del bad.content["HEADER"]
    return bad


@pytest.mark.parametrize(("name", "spoil"), ORDERS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_hostile_order_is_one_code(name: str, spoil: Spoil) -> None:
    good = order_message(ORDER)
    bad = spoil(good) if name.startswith("want-state") else renamed(spoil, "order", good)
    with pytest.raises(Refused) as caught:
        read_order(bad)
    assert caught.value.code is Code.MALFORMED_ORDER


@pytest.mark.parametrize(("name", "spoil"), REPORTS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_hostile_report_is_one_code(name: str, spoil: Spoil) -> None:
    good = reply(REPORT)
    bad = renamed(spoil, "report", good) if (name, spoil) in BOTH else spoil(good)
    with pytest.raises(Refused) as caught:
        read_report(bad)
    assert caught.value.code is Code.MALFORMED_ORDER


def test_an_error_where_an_order_should_be_is_refused() -> None:
    order = order_message(ORDER)
    with pytest.raises(Refused) as caught:
        read_order(Message(Error(code=3, reason="x"), reply_to=order))
    assert caught.value.code is Code.MALFORMED_ORDER
    with pytest.raises(Refused):
        read_order(message(RecordDict(), "train.round"))


def test_a_report_with_another_round_is_another_report() -> None:
    assert read_report(reply(replace(REPORT, round=4))) != REPORT


def test_every_metric_that_a_task_may_have_can_cross() -> None:
    names = {name for several in METRICS.values() for name in several}
    rows = tuple(Metric("a", "test", Stage.FINAL, name, 0.5, 9, 0.4, 0.6) for name in sorted(names))
    assert read_report(reply(replace(REPORT, metrics=rows))).metrics == rows
