"""From a message of the hub to the reply: order, approval, trainer, egress, ledger line, report.

The gate answers every message: with a report, or with a code. It never loads code, and no text of an exception
reaches a reply. What it sends is in the sent-ledger, on the disk, before it is handed to the link.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flwr.app import Message

from polyward_client.approvals import Approval
from polyward_client.decisions import last_approval, read_decisions
from polyward_client.gate.egress import (
    check_counts,
    check_kept,
    check_metrics,
    check_norm,
    check_precision,
    check_progress,
    check_state,
    check_steps,
)
from polyward_client.gate.lines import Answered, refusal_line, report_line
from polyward_client.gate.permission import Guard, Permission
from polyward_client.gate.spool import read_handed
from polyward_client.gate.used import add_seconds
from polyward_client.port.interface import Done, Progress, Trainer, Work
from polyward_client.site import Policy, Site
from polyward_shared.chain import Chain, read_chain
from polyward_shared.codec import decode, encode
from polyward_shared.messages import Kind, Order, Report
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.schema import Flat, Schema
from polyward_shared.states import write_state
from polyward_shared.wire import read_order, refusal_message, report_message

log = logging.getLogger(__name__)

SOFTWARE = re.compile(r"[a-z]+ [0-9a-z.+]+(, [a-z]+ [0-9a-z.+]+){0,5}")  # names and versions, no free text
STATES_KEPT = 2  # the one in work and the one before it, on which a change may be sent

TAKEN_BACK = frozenset({Code.PAUSED, Code.WITHDRAWN})


class Gate:
    """One site's gate. `watch` hears the trainer's progress; one order is answered at a time."""

    def __init__(self, site: Site, trainer: Trainer, watch: Callable[[Progress], None] = lambda _: None) -> None:
        self.site = site
        self.sent = Chain(site.sent)
        self.permission = Permission(site)
        self._trainer = trainer
        self._watch = watch
        self._answered = Answered(read_chain(site.sent))

    def answer(self, message: Message) -> Message:
        """The reply to any message whatever. Does not raise."""
        order: Order | None = None
        try:
            order = read_order(message)
            approval, policy = self._allowed(order)
            report, notes = self._report(order, approval, policy)
            reply = report_message(report, message)
            self._answered.note(self.sent.append(report_line(report, approval.schema, notes)))
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

    def _allowed(self, order: Order) -> tuple[Approval, Policy]:
        """What the site's people allow, and whether it is the order's turn in the study."""
        try:
            approval, policy = self.permission.check(order)
            if order.kind is not Kind.JOIN:
                self._check_turn(order, approval)
        except Refused as refused:
            log.warning("%s may not be worked on: %s", order.kind, refused.detail)  # in words: no data was touched yet
            if refused.code in TAKEN_BACK:  # a gate that was killed within an order may have left its work running
                threading.Thread(target=self._cancel, name="cancel", daemon=True).start()
            raise
        return approval, policy

    def _cancel(self) -> None:
        with suppress(Refused):  # a trainer that is away works on nothing
            self._trainer.cancel()

    def _check_turn(self, order: Order, approval: Approval) -> None:
        if not 1 <= order.round <= approval.study.rounds:
            raise Refused(Code.POLICY, f"round {order.round} of a study that has {approval.study.rounds}")
        given = last_approval(read_decisions(self.site.approved), order.study)
        self._answered.check(order, given.at if given else "")

    def _report(self, order: Order, approval: Approval, policy: Policy) -> tuple[Report, dict[str, object]]:
        answer = Report(
            kind=order.kind,
            study=order.study,
            round=order.round,
            attempt=order.attempt,
            state_digest=order.state_digest,
        )
        if order.kind is Kind.JOIN:
            return self._join(answer, order, approval, policy)
        base = self._received_state(order, approval)
        self._watch(Progress(phase="loading"))
        work = Work(
            study=order.study,
            round=order.round,
            state=str(self._state_path(order.study, order.state_digest)),
            state_digest=order.state_digest,
        )
        done = self._done(order, work)
        self._watch(Progress(phase="checking"))
        _, policy = self.permission.check(order)  # what was taken back meanwhile does not leave
        return self._checked(answer, done, base, order, approval, policy)

    def _done(self, order: Order, work: Work) -> Done:
        """The trainer's answer, for as long as the site's people allow it; its time is counted whatever comes of it."""
        run = self._trainer.train if order.kind is Kind.TRAIN else self._trainer.finish
        with Guard(lambda seconds: self.permission.check(order, seconds), self._trainer.cancel) as guard:
            try:
                return run(work, lambda progress: self._watch(check_progress(progress)))
            except Refused as refused:
                raise (guard.refused if refused.code is Code.CANCELLED and guard.refused else refused) from None
            finally:
                add_seconds(self.site, order.study, guard.seconds)

    def _join(
        self, answer: Report, order: Order, approval: Approval, policy: Policy
    ) -> tuple[Report, dict[str, object]]:
        self._watch(Progress(phase="loading"))
        described = self._trainer.describe(order.study)
        self._watch(Progress(phase="checking"))
        flat = self._handed(approval, order, described.first)
        report = replace(
            answer,
            samples=described.samples,
            counts=check_counts(approval, described.counts, described.samples, policy.minimum_count),
            schema=approval.schema.to_json(),
            first=approval.schema.group_digests(flat),
            software=described.software if SOFTWARE.fullmatch(described.software) else "",
            payload=encode("float32", flat, None) if order.want_state else b"",
        )
        return report, {}

    def _checked(
        self, answer: Report, done: Done, base: Flat, order: Order, approval: Approval, policy: Policy
    ) -> tuple[Report, dict[str, object]]:
        minimum = policy.minimum_count
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
            flat = self._handed(approval, order, done.update)
            notes["norm"] = check_norm(approval.schema, flat, base, approval.study.wire.update_norm)
            check_precision(approval.schema, flat)
            codec = approval.study.wire.codec
            report = replace(report, codec=codec, payload=encode(codec, flat, base))
        return report, notes

    def _handed(self, approval: Approval, order: Order, name: str) -> Flat:
        """What the trainer left in the spool, if it may leave."""
        return check_state(approval.schema, read_handed(self.site.spool, order.study, name, approval.schema))

    def _received_state(self, order: Order, approval: Approval) -> Flat:
        """The state that the order names, from its payload or from the spool; kept in the spool either way."""
        path = self._state_path(order.study, order.state_digest)
        schema = approval.schema
        if not order.payload:
            flat = self._kept(order.study, order.state_digest, schema)
            if schema.state_digest(flat) != order.state_digest:  # the trainer may write there, and norms count from it
                path.unlink(missing_ok=True)
                raise Refused(Code.STATE_UNKNOWN, f"state {order.state_digest[:12]} is not what was kept")
            return flat
        base = self._kept(order.study, order.base_digest, schema) if order.base_digest else None
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

    def _kept(self, study: str, digest: str, schema: Schema) -> Flat:
        """A state in the spool, whatever it holds by now."""
        path = self._state_path(study, digest)
        if not digest or not path.is_file():
            raise Refused(Code.STATE_UNKNOWN, f"state {digest[:12]} is not here")
        return schema.pack(read_handed(self.site.spool, study, path.name, schema))

    def _state_path(self, study: str, digest: str) -> Path:
        return self.site.spool / study / f"state-{digest}.safetensors"

    def _prune(self, newest: Path) -> None:
        states = sorted(newest.parent.glob("state-*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        for path in states[:-STATES_KEPT]:
            path.unlink(missing_ok=True)

    def _refusal(self, refused: Refused, order: Order | None, message: Message) -> Message:
        log.warning("refused: %s", refused)
        try:
            self.sent.append(refusal_line(refused.code, message.metadata.message_type[:60], order))
        except OSError as error:  # a code holds nothing of the site's, and a silent gate would hold up the study
            log.error("the sent-ledger cannot be written (%s); only refusals leave", error)
        return refusal_message(refused.code, message)
