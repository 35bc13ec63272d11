"""The studies that a site has approved, each by its digest, with the schema of what may leave.

The study's text and the schema come from the site's own copy, never from an order: an order names a digest, and a
digest that is not here is refused. Whether it is still approved, and that the copy is the one that a person saw, the
record of decisions says.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from polyward_client.decisions import Verdict, decide, last_about, last_approval, read_decisions
from polyward_client.site import Policy
from polyward_shared.messages import Kept, models_of
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.reading import validated
from polyward_shared.schema import Schema
from polyward_shared.study import Study
from polyward_shared.whole import write_whole


@dataclass(frozen=True, slots=True)
class Approval:
    """A study that may run here, for these tasks, and the arrays that may leave under it."""

    study: Study
    tasks: tuple[str, ...]
    schema: Schema

    @property
    def models(self) -> tuple[Kept, ...]:
        """The models among which the site chooses for each task at the end; none where it trains only one."""
        return models_of(self.study.personal)


def write_approval(folder: Path, approval: Approval, policy: Policy | None = None) -> Path:
    """Keeps the approval under the study's digest, whole or not at all, and records who gave it under which policy."""
    digest = approval.study.digest()
    text = json.dumps(
        {
            "study": json.loads(approval.study.canonical()),
            "tasks": list(approval.tasks),
            "schema": approval.schema.to_json(),
        },
        indent=1,
    ).encode()
    path = folder / f"{digest}.json"
    write_whole(path, text)
    decide(
        folder,
        Verdict.APPROVED,
        study=digest,
        id=approval.study.id,
        approval=hashlib.sha256(text).hexdigest(),
        policy=policy.model_dump(mode="json") if policy else None,
    )
    return path


def read_approval(folder: Path, digest: str) -> Approval | None:
    """The approval that this digest once got, also if it was taken back; None where there is none.

    Raises `Problem` for a file that is damaged, or another than the one that was approved.
    """
    path = folder / f"{digest}.json"
    if not path.is_file():
        return None
    try:
        text = path.read_bytes()
        data = json.loads(text)
        study = validated(data["study"], Study, where=str(path))
        approval = Approval(study, tuple(data["tasks"]), Schema.from_json(data["schema"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Problem(str(path), "is damaged", remedy="approve the study again") from None
    if study.digest() != digest:
        raise Problem(
            str(path),
            "holds another study than its name says",
            remedy="delete the file and approve the study again",
        )
    given = last_approval(read_decisions(folder), digest)
    if given is None or given.approval != hashlib.sha256(text).hexdigest():
        raise Problem(
            str(path),
            "is not the approval that the record of decisions tells of",
            remedy="find out who changed it, then approve the study again",
        )
    return approval


def approved_now(folder: Path, digest: str) -> Approval:
    """The approval under which this study may run at this moment.

    Raises `Refused` for a study that is unknown, rejected or withdrawn, and `Problem` for a record that is not sound.
    """
    last = last_about(read_decisions(folder), digest)
    if last is not None and last.verdict is Verdict.WITHDRAWN:
        raise Refused(Code.WITHDRAWN, f"study {digest[:12]} was withdrawn here on {last.at[:16]}")
    if last is None or last.verdict is not Verdict.APPROVED:
        raise Refused(Code.STUDY_NOT_APPROVED, f"study {digest[:12]} has not been approved here")
    approval = read_approval(folder, digest)
    if approval is None:
        raise Problem(str(folder / f"{digest}.json"), "is gone", remedy="approve the study again")
    return approval
