"""What people decided at this site: `approved/decisions.jsonl`, one line for each decision, in a hash chain.

A line says who decided what and when, and holds the digest of the approval's file and the policy of that day: what is
changed afterwards, in the file or in this record, is noticed and refused. Nothing of it ever leaves.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from polyward_shared.chain import Chain, read_chain
from polyward_shared.problems import Problem

RECORD = "decisions.jsonl"


class Verdict(StrEnum):
    """The decisions that there are; the last two are about the whole node."""

    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    PAUSED = "paused"
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of the record. `approval` is the SHA-256 of the approval's file, empty for other verdicts."""

    at: str
    user: str
    verdict: Verdict
    study: str = ""  # digest
    id: str = ""
    reason: str = ""
    approval: str = ""


def decide(
    folder: Path,
    verdict: Verdict,
    *,
    study: str = "",
    id: str = "",
    reason: str = "",
    approval: str = "",
    policy: Mapping[str, Any] | None = None,
) -> None:
    """Adds a decision, on the disk when this returns. One person at a time. Raises `Problem` for a broken record."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    line: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "user": user(), "what": verdict}
    line |= {"study": study, "id": id, "reason": reason, "approval": approval, "policy": dict(policy or {})}
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        Chain(folder / RECORD).append(line)
    finally:
        os.close(descriptor)


def read_decisions(folder: Path) -> list[Decision]:
    """All decisions, the oldest first. Raises `Problem` where the chain is broken or a line is none."""
    try:
        return [
            Decision(
                at=str(line["at"]),
                user=str(line["user"]),
                verdict=Verdict(line["what"]),
                study=str(line["study"]),
                id=str(line["id"]),
                reason=str(line["reason"]),
                approval=str(line["approval"]),
            )
            for line in read_chain(folder / RECORD)
        ]
    except (KeyError, ValueError):
        raise Problem(str(folder / RECORD), "holds a line that is no decision", remedy="restore a backup") from None


def last_about(decisions: Iterable[Decision], study: str) -> Decision | None:
    """The decision that counts for the study of this digest; None where nobody has decided."""
    return next((each for each in reversed(list(decisions)) if each.study == study), None)


def withdrawn(decisions: Iterable[Decision]) -> set[str]:
    """Digests of the studies that the site has left and not come back to."""
    verdicts = {each.study: each.verdict for each in decisions if each.study}
    return {study for study, verdict in verdicts.items() if verdict is Verdict.WITHDRAWN}


def approved(decisions: Iterable[Decision]) -> list[str]:
    """Digests of the studies that the site approves now, the one that was decided on last at the end."""
    last: dict[str, Verdict] = {}
    for each in decisions:
        if each.study:
            last.pop(each.study, None)
            last[each.study] = each.verdict
    return [study for study, verdict in last.items() if verdict is Verdict.APPROVED]


def last_approval(decisions: Iterable[Decision], study: str) -> Decision | None:
    """The latest approval of this digest, whatever was decided after it."""
    approvals = (each for each in decisions if each.verdict is Verdict.APPROVED)
    return last_about(approvals, study)


def user() -> str:
    """Who is at the keyboard: the process's user, and who became that user with sudo."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{name} for {behind}" if behind and behind != name else name
