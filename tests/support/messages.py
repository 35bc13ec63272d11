"""Flower messages as they arrive, and ways to spoil them."""

from __future__ import annotations

from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from polyward_shared.messages import Order, Report
from polyward_shared.wire import order_content, payload_record, report_message

NODE = 1001


def order_message(order: Order) -> Message:
    """The message that carries this order to a node."""
    return message(order_content(order, payload_record(order.payload)), str(order.kind))


def message(content: RecordDict, kind: str) -> Message:
    """Any content as a message to a node."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # Message() asks for them
    made = Message(content, NODE, kind)
    made.metadata.__dict__["_message_id"] = "m"
    return made


def reply(report: Report) -> Message:
    """The message that carries this report to the hub."""
    return report_message(report, order_message(Order(kind=report.kind, study=report.study)))


def spoiled(good: Message, record: str, key: str, value: Any) -> Message:
    """The same message with one entry replaced, added, or (None) taken out; past Flower's own checks of types."""
    entries: dict[str, Any] = good.content[record]._data  # type: ignore[union-attr]
    if value is None:
        del entries[key]
    else:
        entries[key] = value
    return good


def without(good: Message, record: str) -> Message:
    del good.content[record]
    return good


def with_record(good: Message, name: str, record: ArrayRecord | MetricRecord | ConfigRecord) -> Message:
    good.content[name] = record
    return good


def array(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> ArrayRecord:
    return ArrayRecord({"state": Array(dtype, shape, stype, data)})
