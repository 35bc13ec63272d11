"""From a message of the hub to the reply: order, approval, trainer, egress, ledger line, report.

The gate answers every message: with a report, or with a code. It never loads code, and no text of an exception
reaches a reply. What it sends is in the sent-ledger, on the disk, before it is handed to the link.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Message

from polyward_client.approvals import Approval, read_approval
from polyward_client.gate.egress import (
    check_counts,
    check_kept,
    check_metrics,
    check_norm,
    check_precision,
    check_state,
    check_steps,
)
from polyward_client.port.interface import Done, Progress, Trainer, Work
from polyward_client.site import Site
from polyward_shared.chain import Chain
from polyward_shared.codec import decode, encode
from polyward_shared.messages import Kind, Order, Report
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.schema import Flat
from polyward_shared.states import read_state, write_state
from polyward_shared.wire import read_order, refusal_message, report_message

log = logging.getLogger(__name__)

SOFTWARE = re.compile(r"[a-z]+ [0-9a-z.+]+(, [a-z]+ [0-9a-z.+]+){0,5}")  # names and versions, no free text
STATES_KEPT = 2  # the one in work and the one before it, on which a change may be sent


class Gate:
    """One site's gate. `watch` hears the trainer's progress; one order is answered at a time."""

    def __init__(self, site: Site, trainer: Trainer, watch: Callable[[Progress], None] = lambda _: None) -> None:
        self.site = site
        self._trainer = trainer
        self._watch = watch
        self._sent = Chain(site.sent)

    def answer(self, message: Message) -> Message:
        """The reply to any message whatever. Does not raise."""
        order: Order | None = None
        try:
            order = read_order(message)
            approval = self._approved(order)
            report, notes = self._report(order, approval)
            reply = report_message(report, message)
            self._sent.append(_sent_line(report, notes))
        except Refused as refused:
            return self._refusal(refused, order, message)
        except Problem as problem:
            return self._refusal(Refused(Code.DATA, str(problem)), order, message)
        except OSError as error:
            return self._refusal(Refused(Code.DISK, str(error)), order, message)
        except Exception as error:  # the outermost layer: nothing of an error may travel in Flower's own words
            log.exception("an order could not be answered")
            return self._refusal(Refused(Code.INTERNAL, type(error).__name__), order, message)
        return reply

    def _approved(self, order: Order) -> Approval:
        approval = read_approval(self.site.approved, order.study)
        if approval is None:
            raise Refused(Code.STUDY_NOT_APPROVED, f"study {order.study[:12]} has not been approved here")
        if order.round > approval.study.rounds:
            raise Refused(Code.POLICY, f"round {order.round} of a study that has {approval.study.rounds}")
        return approval

    def _report(self, order: Order, approval: Approval) -> tuple[Report, dict[str, object]]:
        answer = Report(
            kind=order.kind,
            study=order.study,
            round=order.round,
            attempt=order.attempt,
            state_digest=order.state_digest,
        )
        if order.kind is Kind.JOIN:
            return self._join(answer, order, approval)
        base = self._received_state(order, approval)
        work = Work(
            study=order.study,
            round=order.round,
            state=str(self._state_path(order.study, order.state_digest)),
            state_digest=order.state_digest,
        )
        run = self._trainer.train if order.kind is Kind.TRAIN else self._trainer.finish
        return self._checked(answer, run(work, self._watch), base, order, approval)

    def _join(self, answer: Report, order: Order, approval: Approval) -> tuple[Report, dict[str, object]]:
        described = self._trainer.describe(order.study)
        flat = check_state(approval.schema, read_state(Path(described.first)))
        report = replace(
            answer,
            samples=described.samples,
            counts=check_counts(approval, described.counts, described.samples, self.site.file.policy.minimum_count),
            schema=approval.schema.to_json(),
            first=approval.schema.group_digests(flat),
            software=described.software if SOFTWARE.fullmatch(described.software) else "",
            payload=encode("float32", flat, None) if order.want_state else b"",
        )
        return report, {}

    def _checked(
        self, answer: Report, done: Done, base: Flat, order: Order, approval: Approval
    ) -> tuple[Report, dict[str, object]]:
        minimum = self.site.file.policy.minimum_count
        metrics, suppressed = check_metrics(approval, order.kind, done.metrics, minimum)
        report = replace(
            answer,
            samples=done.samples,
            counts=check_counts(approval, done.counts, done.samples, minimum),
            metrics=metrics,
            seconds=done.seconds,
            steps=check_steps(approval, order.kind, done.steps, done.samples),
            kept=check_kept(approval, order.kind, done.kept),
        )
        notes: dict[str, object] = {"suppressed": suppressed}
        if order.kind is Kind.TRAIN:
            if done.update is None:
                raise Refused(Code.TRAINING_FAILED, "the trainer announced no update")
            flat = check_state(approval.schema, read_state(Path(done.update)))
            notes["norm"] = check_norm(approval.schema, flat, base, approval.study.wire.update_norm)
            check_precision(approval.schema, flat)
            codec = approval.study.wire.codec
            report = replace(report, codec=codec, payload=encode(codec, flat, base))
        return report, notes

    def _received_state(self, order: Order, approval: Approval) -> Flat:
        """The state that the order names, from its payload or from the spool; kept in the spool either way."""
        path = self._state_path(order.study, order.state_digest)
        schema = approval.schema
        if not order.payload:
            if not order.state_digest or not path.is_file():
                raise Refused(Code.STATE_UNKNOWN, f"state {order.state_digest[:12]} is not here")
            return schema.pack(read_state(path))
        base = None
        if order.base_digest:
            base_path = self._state_path(order.study, order.base_digest)
            if not base_path.is_file():
                raise Refused(Code.STATE_UNKNOWN, f"state {order.base_digest[:12]} is not here")
            base = schema.pack(read_state(base_path))
        try:
            flat = decode(order.codec, order.payload, base)
        except ValueError as error:
            raise Refused(Code.MALFORMED_ORDER, str(error)) from None
        if flat.size != schema.size or schema.state_digest(flat) != order.state_digest:
            raise Refused(Code.STATE_MISMATCH, "the payload is not the state that the order names")
        if not path.is_file():
            write_state(path, schema.views(flat), {"study": order.study, "round": str(order.round)})
            self._prune(path)
        return flat

    def _state_path(self, study: str, digest: str) -> Path:
        return self.site.spool / study / f"state-{digest}.safetensors"

    def _prune(self, newest: Path) -> None:
        states = sorted(newest.parent.glob("state-*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        for path in states[:-STATES_KEPT]:
            path.unlink(missing_ok=True)

    def _refusal(self, refused: Refused, order: Order | None, message: Message) -> Message:
        log.warning("refused: %s", refused)
        line = {
            "at": _now(),
            "what": "refusal",
            "code": refused.code,
            "kind": message.metadata.message_type[:60],
            "study": order.study if order else "",
            "round": order.round if order else 0,
        }
        try:
            self._sent.append(line)
        except OSError as error:  # a code holds nothing of the site's, and a silent gate would hold up the study
            log.error("the sent-ledger cannot be written (%s); only refusals leave", error)
        return refusal_message(refused.code, message)


def _sent_line(report: Report, notes: dict[str, object]) -> dict[str, object]:
    """Everything in the report, the arrays by their digest: the whole of what leaves."""
    return {
        "at": _now(),
        "what": "report",
        "kind": report.kind,
        "study": report.study,
        "round": report.round,
        "attempt": report.attempt,
        "state": report.state_digest,
        "codec": report.codec,
        "bytes": len(report.payload),
        "sha256": hashlib.sha256(report.payload).hexdigest(),
        "samples": report.samples,
        "counts": report.counts,
        "metrics": [
            [m.task, m.split, m.stage, m.name, m.value, m.count, *(() if m.low is None else (m.low, m.high))]
            for m in report.metrics
        ],
        "seconds": report.seconds,
        "steps": report.steps,
        "kept": report.kept,
        "schema": hashlib.sha256(report.schema.encode()).hexdigest() if report.schema else "",
        "first": report.first,
        "software": report.software,
        **notes,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
