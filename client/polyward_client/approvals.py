"""The studies that a site has approved, each by its digest, with the schema of what may leave.

The study's text and the schema come from the site's own copy, never from an order: an order names a digest, and a
digest that is not here is refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.schema import Schema
from polyward_shared.study import Study


@dataclass(frozen=True, slots=True)
class Approval:
    """A study that may run here, for these tasks, and the arrays that may leave under it."""

    study: Study
    tasks: tuple[str, ...]
    schema: Schema


def write_approval(folder: Path, approval: Approval) -> Path:
    """Keeps the approval under the study's digest, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{approval.study.digest()}.json"
    text = json.dumps(
        {
            "study": json.loads(approval.study.canonical()),
            "tasks": list(approval.tasks),
            "schema": approval.schema.to_json(),
        },
        indent=1,
    )
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(folder)
    return path


def read_approval(folder: Path, digest: str) -> Approval | None:
    """The approval of this digest, or None. A file that does not match its own name is a `Problem`."""
    path = folder / f"{digest}.json"
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        study = validated(data["study"], Study, where=str(path))
        approval = Approval(study, tuple(data["tasks"]), Schema.from_json(data["schema"]))
    except (ValueError, KeyError, TypeError):
        raise Problem(str(path), "is damaged", remedy="approve the study again") from None
    if study.digest() != digest:
        raise Problem(
            str(path),
            "holds another study than its name says",
            remedy="delete the file and approve the study again",
        )
    return approval
