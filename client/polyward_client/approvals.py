"""The studies that a site has approved, each by its digest, with the schema of what may leave.

The study's text and the schema come from the site's own copy, never from an order: an order names a digest, and a
digest that is not here is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polyward_shared.chain import sync_folder
from polyward_shared.messages import Kept, models_of
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.schema import BRANCHES, ENCODER, PRECISION, STATISTICS, Schema
from polyward_shared.study import Study

BRANCH_OWNERS = {
    "site": "the hub mixes it with the branches of other tasks",  # only under the rule fedhca2 does it leave then
    "taskset": "shared with the sites that train the very same tasks",
    "task": "shared with all sites that train this task",
}


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


def leaving(approval: Approval) -> Iterator[str]:
    """What leaves the site under this approval, in plain words, a line for each sort of thing."""
    study, schema = approval.study, approval.schema
    width = 4 if study.wire.codec == "float32" else 2
    yield f"in each of {study.rounds} rounds, {schema.size * width / 1e6:.2f} MB:"
    for name in schema.groups:
        part = schema.group(name)
        arrays = f"{len(part.arrays)} array{'s' if len(part.arrays) > 1 else ''}"
        yield f"  {name} ({arrays}, {part.size * width / 1e6:.2f} MB): {_meaning(name, study)}"
    yield "  the number of training images, of labels of each task, of optimiser steps, and the seconds they took"
    yield "figures of each task, each with its number of cases:"
    yield "  of the model as received and as trained here, and of the model after the final tuning"
    if study.personal.alone:
        yield "  of the model that this site trains alone; its arrays stay here"
    if study.personal.ditto:
        yield "  of the model that this site trains near the received one (Ditto); its arrays stay here"
    if approval.models:
        yield f"at the end, for each task, one word for the model that this site keeps: {' or '.join(approval.models)}"


def _meaning(group: str, study: Study) -> str:
    if group.startswith(f"{BRANCHES}."):
        return f"the branch of {group.removeprefix(f'{BRANCHES}.')}, {BRANCH_OWNERS[study.sharing.branches]}"
    return {
        ENCODER: "the weights of the shared encoder",
        PRECISION: "how sure this site is of each of those weights, by squared gradients; tells more than weights",
        STATISTICS: "means and squares of features over this site's images, which its batch norms have seen",
    }[group]


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
