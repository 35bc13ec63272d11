"""All studies on one table: where each stands, who takes part, how far it is."""

from __future__ import annotations

from datetime import datetime

from polyward_server.contacts import read_contacts
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_shared.reading import Frozen


class StudyRow(Frozen):
    """One study."""

    study: str  # digest
    id: str
    state: State
    reason: str
    round: int
    rounds: int
    members: int  # that joined and have not left
    here: int  # of them, connected now
    approved: int  # sites that said so
    committed: datetime | None  # its last round
    remaining_seconds: float | None  # at the pace of the last rounds; None where nothing tells


class Overview(Frozen):
    """Every study of the hub, in the order of the queue."""

    rows: tuple[StudyRow, ...]


def read_overview(ledger: Ledger) -> Overview:
    """Reads it from the ledger."""
    here = {name for name, contact in read_contacts(ledger).items() if contact.connected}
    return Overview(rows=tuple(_row(ledger, digest, here) for digest in ledger.studies_in(*State)))


def _row(ledger: Ledger, digest: str, here: set[str]) -> StudyRow:
    study, (state, reason), committed = ledger.study(digest), ledger.study_state(digest), ledger.rounds(digest)
    members = {name for name, member in ledger.members(digest).items() if member.agrees}
    last = committed[-1] if committed else None
    pace = [each.seconds for each in committed[1:]][-5:]
    left = study.rounds - (last.number if last else 0)
    return StudyRow(
        study=digest,
        id=study.id,
        state=State(state),
        reason=reason,
        round=last.number if last else 0,
        rounds=study.rounds,
        members=len(members),
        here=len(members & here),
        approved=len(ledger.approvals(digest)),
        committed=last.committed if last else None,
        remaining_seconds=left * sum(pace) / len(pace) if pace and state == State.RUNNING else None,
    )
