"""A trainer that trains nothing: `python -m tests.bench.null_trainer SITE STATE [SECONDS]`.

Everything around training is as in the real one: a process of its own on the port, the received state checked against
its digest, the update and the record of it forced to the disk, the same answer to the same request. What remains of a
round's time is the platform's.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from polyward_client.approvals import Approval, read_approval
from polyward_client.port.interface import Description, Done, Progress, Watcher, Work
from polyward_client.port.serve import serve
from polyward_client.site import Site, read_site
from polyward_client.trainer.spool import Spool
from polyward_shared.problems import Code, Refused
from polyward_shared.states import read_state
from polyward_shared.supervise import end_with_parent, stop_on_signals

SAMPLES = 100
STEP = np.float32(1e-3)  # added to every value: inside the norm bound, and not lost in bfloat16


class NullTrainer:
    """Satisfies `Trainer`. `seconds` is how long it pretends to train, for kills in mid-round."""

    def __init__(self, site: Site, seconds: float = 0.0) -> None:
        self.site = site
        self._seconds = seconds

    def describe(self, study: str) -> Description:
        approval = self._approval(study)
        spool = Spool(self.site.spool, study)
        if not spool.first.is_file():
            spool.keep_first(
                {
                    spec.name: np.random.default_rng(approval.study.seed).standard_normal(spec.shape, np.float32)
                    for spec in approval.schema.arrays
                }
            )
        counts = dict.fromkeys(approval.tasks, SAMPLES)
        return Description(samples=SAMPLES, counts=counts, first=str(spool.first), software="none 0", device="none")

    def train(self, work: Work, watch: Watcher) -> Done:
        spool = Spool(self.site.spool, work.study)
        if known := spool.done(work.round, work.state_digest, final=False):
            return known
        approval = self._approval(work.study)
        arrays = read_state(Path(work.state))
        if approval.schema.state_digest(approval.schema.pack(arrays)) != work.state_digest:
            raise Refused(Code.STATE_MISMATCH, "the state in the spool is not the one that the order names")
        watch(Progress(phase="nothing", epoch=1, epochs=1))
        time.sleep(self._seconds)
        changed = {name: values + STEP for name, values in arrays.items()}
        update = spool.keep_update(changed, work.round, work.state_digest)
        done = _done(approval, str(update))
        spool.keep_done(done, work.round, work.state_digest, final=False)
        return done

    def finish(self, work: Work, watch: Watcher) -> Done:
        return _done(self._approval(work.study), None)

    def cancel(self) -> None:
        """There is nothing to cancel."""

    def _approval(self, study: str) -> Approval:
        approval = read_approval(self.site.approved, study)
        if approval is None:
            raise Refused(Code.STUDY_NOT_APPROVED, f"study {study[:12]} has not been approved here")
        return approval


def _done(approval: Approval, update: str | None) -> Done:
    counts = dict.fromkeys(approval.tasks, SAMPLES)
    return Done(samples=SAMPLES, counts=counts, metrics=(), update=update, seconds=0.0)


def main() -> None:
    """Serves until SIGTERM, or until its parent is gone. Works in the port folder, as the real one does."""
    end_with_parent()
    site = read_site(Path(sys.argv[1]), state=Path(sys.argv[2]))
    os.chdir(site.port)
    stop = stop_on_signals()
    server = serve(NullTrainer(site, float(sys.argv[3]) if len(sys.argv) > 3 else 0.0), site.socket)
    stop.wait()
    server.stop(grace=0)


if __name__ == "__main__":
    main()
