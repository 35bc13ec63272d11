"""A trainer whose work can be done by hand: each round every value goes half of the way to the site's own target.

With weights w_i and targets t_i, the next state is therefore base + 0.5 * (sum w_i t_i / sum w_i - base).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polyward_client.approvals import Approval, read_approval, write_approval
from polyward_client.port.interface import Description, Done, Progress, Watcher, Work
from polyward_client.site import Policy, Site, read_site
from polyward_shared.messages import Kept, Metric, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import PRECISION, ArraySpec, Flat, Schema
from polyward_shared.states import read_state, write_state
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

STEP = 0.5
ENCODER_ARRAYS = (ArraySpec("encoder.w", (2, 3)), ArraySpec("encoder.b", (3,)))


def toy_study(**changes: Any) -> Study:
    """Two tasks, three rounds; `changes` replace whole sections."""
    text: dict[str, Any] = {
        "id": "toy",
        "rounds": 3,
        "image": {"size": [8, 8]},
        "encoder": {"filters": 4, "blocks": [1, 1]},
        "tasks": {"mask": {"kind": "segmentation"}, "grade": {"kind": "binary"}},
        "participation": {"quorum": 2, "deadline_seconds": 20.0, "rejoin_seconds": 5.0},
    }
    return Study.model_validate({**text, **changes})


def toy_schema(study: Study, tasks: tuple[str, ...]) -> Schema:
    """The encoder; a branch of two values for each task where branches cross; how sure the site is, if it is asked."""
    groups = study.groups(tasks)
    branches = [ArraySpec(f"branches.{task}.w", (2,)) for task in sorted(tasks) if f"branches.{task}" in groups]
    sure = [ArraySpec(f"precision.{spec.name}", spec.shape) for spec in ENCODER_ARRAYS if PRECISION in groups]
    return Schema((*ENCODER_ARRAYS, *branches, *sure))


def toy_site(folder: Path, name: str, study: Study, tasks: tuple[str, ...]) -> Site:
    """A site with files of its own that has approved the study, and lets it run with as few sites as it asks for."""
    path = folder / f"{name}.toml"
    folder.mkdir(parents=True, exist_ok=True)
    text = f'name = "{name}"\ntasks = {list(tasks)}\n[data]\nroot = "."\n'
    if study.participation.quorum < Policy().minimum_sites:
        text += f"[policy]\nminimum_sites = {study.participation.quorum}\n"
    path.write_text(text, encoding="utf-8")
    site = read_site(path)
    write_approval(site.approved, Approval(study, tasks, toy_schema(study, tasks)))
    return site


def first_state(schema: Schema) -> Flat:
    """The same values for the same names at every site, as from a seed."""
    values = [np.full(spec.size, sum(spec.name.encode()) % 7 / 8, np.float32) for spec in schema.arrays]
    return np.concatenate(values)


@dataclass
class ToyTrainer:
    """`counts` are the labels of each task; `metrics` replace the usual ones of a round; `fail` refuses all work.

    A round is one step. `kept` are the models that it says it keeps; it sends no figures of any but the federated one.
    """

    site: Site
    target: float
    counts: Mapping[str, int]
    metrics: tuple[Metric, ...] | None = None
    fail: Code | None = None
    first_offset: float = 0.0
    software: str = "toy 1.0, numpy 2.4.6"
    sure: float = 1.0  # of its encoder's first three values, of nine
    kept: dict[str, Kept] = field(default_factory=dict)
    trained: list[tuple[int, str]] = field(default_factory=list)

    def describe(self, study: str) -> Description:
        approval = self._approval(study)
        path = self.site.spool / study / "first.safetensors"
        schema = approval.schema
        write_state(path, schema.views(first_state(schema) + np.float32(self.first_offset)), {})
        samples = max(self.counts.values())
        return Description(
            samples=samples, counts=dict(self.counts), first=str(path), software=self.software, device=""
        )

    def train(self, work: Work, watch: Watcher) -> Done:
        approval = self._approval(work.study)
        self.trained.append((work.round, work.state_digest))
        watch(Progress(phase="together", epoch=1, epochs=1))
        flat = approval.schema.pack(read_state(Path(work.state)))
        update = flat + np.float32(STEP) * (np.float32(self.target) - flat)
        if (where := approval.schema.groups.get(PRECISION)) is not None:
            update[where] = [self.sure] * 3 + [(9 - 3 * self.sure) / 6] * 6  # whose mean is 1
        path = self.site.spool / work.study / f"update-{work.round:06}-{work.state_digest}.safetensors"
        write_state(path, approval.schema.views(update), {})
        rows = self._rows(approval, Stage.RECEIVED) + self._rows(approval, Stage.TRAINED)
        return self._done(rows if self.metrics is None else self.metrics, str(path)).model_copy(update={"steps": 1})

    def finish(self, work: Work, watch: Watcher) -> Done:
        done = self._done(self._rows(self._approval(work.study), Stage.FINAL), None)
        return done.model_copy(update={"kept": self.kept})

    def cancel(self) -> None:
        self.fail = Code.CANCELLED

    def _approval(self, study: str) -> Approval:
        if self.fail is not None:
            raise Refused(self.fail, "patient 17 is on this disk")
        approval = read_approval(self.site.approved, study)
        if approval is None:
            raise Refused(Code.STUDY_NOT_APPROVED, study)
        return approval

    def _rows(self, approval: Approval, stage: Stage) -> tuple[Metric, ...]:
        return tuple(
            Metric(task=task, split=split, stage=stage, name=name, value=self.target, count=self.counts[task])
            for task in approval.tasks
            for split in approval.study.evaluation.splits
            for name in METRICS[approval.study.tasks[task].kind]
        )

    def _done(self, rows: tuple[Metric, ...], update: str | None) -> Done:
        samples = max(self.counts.values())
        return Done(samples=samples, counts=dict(self.counts), metrics=rows, update=update, seconds=0.5)
