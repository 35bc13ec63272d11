"""The lines of the sent-ledger that tell of answers to orders, and what earlier ones mean for the next order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from polyward_client.leaving import STATES_OF_A_ROUND
from polyward_shared.messages import Kind, Order, Report
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import Schema


def report_line(report: Report, schema: Schema, notes: Mapping[str, object]) -> dict[str, object]:
    """Everything in the report, the arrays by their digest: the whole of what leaves.

    `schema` is the approved one; its digest is told where arrays, or names, leave, and the groups where arrays leave.
    """
    groups = {name: schema.group(name) for name in schema.groups} if report.payload else {}
    return {
        "at": now(),
        "what": "report",
        "kind": report.kind,
        "study": report.study,
        "round": report.round,
        "attempt": report.attempt,
        "state": report.state_digest,
        "codec": report.codec,
        "bytes": len(report.payload),
        "sha256": hashlib.sha256(report.payload).hexdigest(),
        "groups": {name: {"arrays": len(part.arrays), "values": part.size} for name, part in groups.items()},
        "samples": report.samples,
        "counts": report.counts,
        "metrics": [
            [m.task, m.split, m.stage, m.name, m.value, m.count, *(() if m.low is None else (m.low, m.high))]
            for m in report.metrics
        ],
        "seconds": report.seconds,
        "steps": report.steps,
        "kept": report.kept,
        "schema": schema.digest if report.payload or report.schema else "",
        "first": report.first,
        "software": report.software,
        **notes,
    }


def refusal_line(code: Code, kind: str, order: Order | None) -> dict[str, object]:
    """That an order was not answered, and by which code; of an order that cannot be read, only its type is known."""
    return {
        "at": now(),
        "what": "refusal",
        "code": code,
        "kind": kind,
        "study": order.study if order else "",
        "round": order.round if order else 0,
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Answered:
    """The rounds that left, from the ledger's lines: an order goes forward in a study, or repeats what was asked last.

    So a hub cannot have old rounds trained again, nor ask one round from ever other states to learn from the
    difference. Approving a study again lets it begin anew.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self._rounds: dict[str, list[tuple[str, int, str]]] = {}  # study -> when, round, state
        for line in lines:
            self.note(line)

    def note(self, line: Mapping[str, Any]) -> None:
        if line["what"] == "report" and line["kind"] == Kind.TRAIN:
            self._rounds.setdefault(line["study"], []).append((line["at"], line["round"], line["state"]))

    def check(self, order: Order, since: str) -> None:
        """Raises `Refused` for an order that goes back behind what was answered `since` then (ISO 8601, UTC)."""
        told = [(number, state) for at, number, state in self._rounds.get(order.study, ()) if at >= since]
        newest = max((number for number, _ in told), default=0)
        if order.round < newest:
            raise Refused(
                Code.POLICY,
                f"round {order.round} after round {newest} was answered; if the hub lost its rounds, approve again",
            )
        states = {state for number, state in told if number == order.round}
        if order.kind is Kind.TRAIN and order.state_digest not in states and len(states) >= STATES_OF_A_ROUND:
            raise Refused(Code.POLICY, f"round {order.round} from a state after {len(states)} others")
