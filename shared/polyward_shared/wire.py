"""Orders and reports as Flower messages: the one module that knows both.

The shared arrays are *one* Flower array, for Flower makes every array at least two objects and every object one HTTP
request. Reading is strict: an unknown record, key, type or length is refused, never ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import get_args

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from polyward_shared.codec import Codec
from polyward_shared.messages import Kept, Kind, Metric, Order, Report, Stage, is_interval
from polyward_shared.problems import Code, Refused

PROTOCOL = 2
SERIALISATION = "polyward.flat"
REFUSAL = 9000  # Flower's error code for all our refusals; the reason is one of `Code`
DIGEST = re.compile(r"[0-9a-f]{64}|")
METRIC = re.compile(rf"[a-z][a-z0-9_]{{0,39}}/(val|test)/({'|'.join(Stage)})/[a-z0-9_]{{1,20}}/(value|count|low|high)")
COUNT = re.compile(r"[a-z][a-z0-9_]{0,39}")
KEPT: tuple[str, ...] = get_args(Kept)
LONGEST_SCHEMA = 1 << 20
MOST = 2**31  # of anything that is counted: what a column of whole numbers holds in every database
Records = dict[str, ArrayRecord | MetricRecord | ConfigRecord]


def payload_record(payload: bytes) -> ArrayRecord:
    """One record for orders to many sites, so that its bytes are uploaded once."""
    if not payload:
        return ArrayRecord()
    return ArrayRecord({"state": Array("uint8", (len(payload),), SERIALISATION, payload)})


def order_content(order: Order, arrays: ArrayRecord) -> RecordDict:
    """The content of the message that carries `order`, with its payload already made into `arrays`."""
    header = ConfigRecord(
        {
            "protocol": PROTOCOL,
            "study": order.study,
            "round": order.round,
            "attempt": order.attempt,
            "state": order.state_digest,
            "base": order.base_digest,
            "codec": order.codec,
            "want-state": order.want_state,
        }
    )
    return RecordDict({"order": header, "arrays": arrays})


def read_order(message: Message) -> Order:
    """The order in `message`. Raises `Refused` for anything that is not exactly one."""
    try:
        kind = Kind(message.metadata.message_type)
    except ValueError:
        raise Refused(Code.UNKNOWN_MESSAGE, f"message type {message.metadata.message_type!r}") from None
    try:
        records = dict(message.content.items())
        header = _header(
            records,
            "order",
            {"protocol", "study", "round", "attempt", "state", "base", "codec", "want-state"},
        )
        order = Order(
            kind=kind,
            study=_digest(header["study"]),
            round=_count(header["round"]),
            attempt=_count(header["attempt"]),
            state_digest=_digest(header["state"]),
            base_digest=_digest(header["base"]),
            codec=_codec(header["codec"]),
            want_state=_truth(header["want-state"]),
            payload=_payload(records),
        )
        _nothing_else(records)
    except (ValueError, OverflowError) as error:
        raise Refused(Code.MALFORMED_ORDER, str(error)) from None
    return order


def named_work(message: Message) -> tuple[str, int]:
    """Study and round that an order names, for people who watch; nothing of an order that says neither."""
    header = message.content.get("order") if message.has_content() else None
    try:
        return (_digest(header["study"]), _count(header["round"])) if isinstance(header, ConfigRecord) else ("", 0)
    except (KeyError, ValueError):
        return "", 0


def report_message(report: Report, order: Message) -> Message:
    """The reply to `order` that carries `report`."""
    header = ConfigRecord(
        {
            "protocol": PROTOCOL,
            "study": report.study,
            "round": report.round,
            "attempt": report.attempt,
            "state": report.state_digest,
            "codec": report.codec,
            "samples": report.samples,
            "seconds": report.seconds,
            "steps": report.steps,
            "schema": report.schema,
            "software": report.software,
        }
    )
    metrics: dict[str, int | float | list[int] | list[float]] = {}
    for metric in report.metrics:
        key = f"{metric.task}/{metric.split}/{metric.stage}/{metric.name}"
        metrics[f"{key}/value"] = float(metric.value)
        metrics[f"{key}/count"] = int(metric.count)
        for end, place in (("low", metric.low), ("high", metric.high)):
            if place is not None:
                metrics[f"{key}/{end}"] = float(place)
    content = RecordDict(
        {
            "report": header,
            "first": ConfigRecord({**report.first}),
            "kept": ConfigRecord({**report.kept}),
            "counts": MetricRecord({**report.counts}),
            "metrics": MetricRecord(metrics),
            "arrays": payload_record(report.payload),
        }
    )
    return Message(content, reply_to=order)


def refusal_message(code: Code, order: Message) -> Message:
    """The reply that says why there is no report: the code and nothing more."""
    return Message(Error(code=REFUSAL, reason=str(code)), reply_to=order)


def read_refusal(message: Message) -> Code:
    """The site's code. An error that is not ours (Flower's own, or a forged text) counts as `internal`."""
    if message.error.code == REFUSAL and message.error.reason in set(Code):
        return Code(message.error.reason)
    return Code.INTERNAL


def read_report(message: Message) -> Report:
    """The report in `message`. Raises `Refused` for anything that is not exactly one."""
    try:
        records = dict(message.content.items())
        header = _header(
            records,
            "report",
            {
                "protocol",
                "study",
                "round",
                "attempt",
                "state",
                "codec",
                "samples",
                "seconds",
                "steps",
                "schema",
                "software",
            },
        )
        report = Report(
            kind=Kind(message.metadata.message_type),
            study=_digest(header["study"]),
            round=_count(header["round"]),
            attempt=_count(header["attempt"]),
            state_digest=_digest(header["state"]),
            codec=_codec(header["codec"]),
            samples=_count(header["samples"]),
            counts=_counts(records),
            metrics=_metrics(records),
            seconds=_finite(header["seconds"]),
            steps=_count(header["steps"]),
            kept=_kept(records),
            schema=_text(header["schema"], LONGEST_SCHEMA),
            first=_first(records),
            software=_text(header["software"], 200),
            payload=_payload(records),
        )
        _nothing_else(records)
    except (ValueError, OverflowError) as error:
        raise Refused(Code.MALFORMED_ORDER, str(error)) from None
    return report


def _header(records: Records, name: str, keys: set[str]) -> Mapping[str, object]:
    header = records.pop(name, None)
    if not isinstance(header, ConfigRecord) or set(header) != keys:
        raise ValueError(f"expected a record {name!r} with the keys {sorted(keys)}")
    if _count(header["protocol"]) != PROTOCOL:
        raise ValueError(f"protocol {header['protocol']!r}, this side speaks {PROTOCOL}")
    return dict(header)


def _payload(records: Records) -> bytes:
    arrays = records.pop("arrays", None)
    if not isinstance(arrays, ArrayRecord) or not set(arrays) <= {"state"}:
        raise ValueError("expected a record 'arrays' with at most the entry 'state'")
    if not arrays:
        return b""
    array = arrays["state"]
    if array.stype != SERIALISATION or array.dtype != "uint8" or array.shape != (len(array.data),):
        raise ValueError(f"expected bytes in the form {SERIALISATION!r}")
    return array.data


def _counts(records: Records) -> dict[str, int]:
    counts = records.pop("counts", None)
    if not isinstance(counts, MetricRecord) or not all(COUNT.fullmatch(key) for key in counts):
        raise ValueError("expected a record 'counts' of task names")
    return {key: _count(value) for key, value in counts.items()}


def _metrics(records: Records) -> tuple[Metric, ...]:
    record = records.pop("metrics", None)
    if not isinstance(record, MetricRecord) or not all(METRIC.fullmatch(key) for key in record):
        raise ValueError("expected a record 'metrics' with keys task/split/stage/name/value, count, low or high")
    found = []
    for key in record:
        stem, _, part = key.rpartition("/")
        if f"{stem}/count" not in record or f"{stem}/value" not in record:
            raise ValueError(f"{stem} needs both a value and a count")
        if part == "value":
            task, split, stage, name = stem.split("/")
            value, count = _finite(record[key]), _count(record[f"{stem}/count"])
            low, high = (_finite(record[end]) if end in record else None for end in (f"{stem}/low", f"{stem}/high"))
            if not is_interval(low, high):
                raise ValueError(f"{stem} needs both ends of its interval, the lower one first")
            found.append(Metric(task, split, Stage(stage), name, value, count, low, high))
    return tuple(found)


def _first(records: Records) -> dict[str, str]:
    first = records.pop("first", None)
    if not isinstance(first, ConfigRecord) or any(len(key) > 60 for key in first):
        raise ValueError("expected a record 'first' of group digests")
    return {key: _digest(value) for key, value in first.items()}


def _kept(records: Records) -> dict[str, Kept]:
    kept = records.pop("kept", None)
    if not isinstance(kept, ConfigRecord) or not all(COUNT.fullmatch(key) for key in kept):
        raise ValueError("expected a record 'kept' of task names")
    found: dict[str, Kept] = {}
    for task, model in kept.items():
        if model not in KEPT:
            raise ValueError(f"expected one of {', '.join(KEPT)}")
        found[task] = model  # type: ignore[assignment]  # it is among those
    return found


def _nothing_else(records: Records) -> None:
    if records:
        raise ValueError(f"unknown records {sorted(records)[:3]}")


def _digest(value: object) -> str:
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise ValueError("expected a digest of 64 hexadecimal digits")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
        raise ValueError("expected a count")
    return value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _text(value: object, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError(f"expected a text of at most {longest} characters in one line")
    return value


def _codec(value: object) -> Codec:
    if value == "float32":
        return "float32"
    if value == "bfloat16":
        return "bfloat16"
    raise ValueError("expected the codec float32 or bfloat16")
