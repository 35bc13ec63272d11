"""An experiment's own trainer: what a site learns, over named arrays, behind the interface that the gate asks.

A `Learner` holds everything that stays at its site, heads above all, and is given and returns only what crosses.
`ArrayTrainer` does around it what the real trainer does: the received state is checked against its digest, updates and
records of them are in the spool before the gate hears of them, and the same request has the same answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from polyward_client.approvals import Approval, read_approval
from polyward_client.port.interface import Description, Done, Progress, Watcher, Work
from polyward_client.site import Site
from polyward_client.trainer.spool import Spool
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import Named
from polyward_shared.states import Arrays, read_state


class Learner(Protocol):
    """One site of an experiment. Its memory is its personal state: it lives as long as the run."""

    counts: Mapping[str, int]  # training labels of each task

    def first(self) -> Arrays:
        """What crosses, before any training; the same at every site."""

    def train(self, received: Named) -> Arrays:
        """One round of work on what crosses."""

    def measure(self, received: Named, stage: Stage) -> Sequence[Metric]:
        """Figures on the test cases with these arrays and the site's own, which do not change."""


class ArrayTrainer:
    """Satisfies `Trainer` with a learner."""

    def __init__(self, site: Site, learner: Learner) -> None:
        self.site = site
        self.learner = learner

    def describe(self, study: str) -> Description:
        self._approval(study)
        spool = Spool(self.site.spool, study)
        if not spool.first.is_file():
            spool.keep_first(self.learner.first())
        return Description(
            samples=max(self.learner.counts.values()),
            counts=dict(self.learner.counts),
            first=str(spool.first),
            software=f"numpy {version('numpy')}",
            device="CPU",
        )

    def train(self, work: Work, watch: Watcher) -> Done:
        spool = Spool(self.site.spool, work.study)
        if known := spool.done(work.round, work.state_digest, final=False):
            return known
        began, received = time.monotonic(), self._received(work)
        watch(Progress(phase="training"))
        last = work.round == self._approval(work.study).study.rounds
        update = self.learner.train(received)
        rows = self.learner.measure(update, Stage.TRAINED) if last else ()
        seconds = time.monotonic() - began
        path = spool.keep_update(update, work.round, work.state_digest)
        done = self._done(rows, str(path), seconds)
        spool.keep_done(done, work.round, work.state_digest, final=False)
        return done

    def finish(self, work: Work, watch: Watcher) -> Done:
        """Nothing is tuned at the end: the figures are those of the last state as it is received."""
        began = time.monotonic()
        watch(Progress(phase="measuring"))
        rows = self.learner.measure(self._received(work), Stage.FINAL)
        return self._done(rows, None, time.monotonic() - began)

    def cancel(self) -> None:
        """A round of these experiments is over before it could be cancelled."""

    def _received(self, work: Work) -> Arrays:
        approval, arrays = self._approval(work.study), read_state(Path(work.state))
        if approval.schema.state_digest(approval.schema.pack(arrays)) != work.state_digest:
            raise Refused(Code.STATE_MISMATCH, "the state in the spool is not the one that the order names")
        return arrays

    def _approval(self, study: str) -> Approval:
        approval = read_approval(self.site.approved, study)
        if approval is None:
            raise Refused(Code.STUDY_NOT_APPROVED, f"study {study[:12]} has not been approved here")
        return approval

    def _done(self, rows: Sequence[Metric], update: str | None, seconds: float) -> Done:
        return Done(
            samples=max(self.learner.counts.values()),
            counts=dict(self.learner.counts),
            metrics=tuple(rows),
            update=update,
            seconds=seconds,
        )
