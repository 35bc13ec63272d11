"""What the gate may ask of the trainer.

Only names, numbers and paths pass here. Arrays pass as safetensors files in the spool folder that both can see, and
are mapped by the reader. Each request names an approved study by digest; the trainer reads the study's text itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pydantic import Field

from polyward_shared.messages import Kept, Metric
from polyward_shared.problems import Code
from polyward_shared.reading import Frozen


class Progress(Frozen):
    """Where the trainer is, for people who watch."""

    phase: str
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None


class Description(Frozen):
    """What this site brings to a study. `first` is a spool file with the first state of the shared arrays."""

    samples: int
    counts: dict[str, int]
    first: str
    software: str
    device: str


class Work(Frozen):
    """Train or finish: start from the state in the spool file `state`, whose digest is `state_digest`."""

    study: str
    round: int
    state: str
    state_digest: str


class Done(Frozen):
    """What came of it. `update` is a spool file with the shared arrays after training (absent after `finish`).

    `steps` are those of the optimiser in a round, `kept` says after `finish` which model the site keeps for each task.
    """

    samples: int
    counts: dict[str, int]
    metrics: tuple[Metric, ...]
    update: str | None
    seconds: float
    steps: int = 0
    kept: dict[str, Kept] = Field(default_factory=dict)


class Failed(Frozen):
    """Why nothing came of it: a code that may leave, and a detail that may not."""

    code: Code
    detail: str


Watcher = Callable[[Progress], None]


class Trainer(Protocol):
    """Every method raises `Refused`. The same request again gives the same answer, without training twice."""

    def describe(self, study: str) -> Description:
        """What the site brings, and the first state."""

    def train(self, work: Work, watch: Watcher) -> Done:
        """One round of the study's schedule."""

    def finish(self, work: Work, watch: Watcher) -> Done:
        """The final tuning of the branches on the last state, and its figures."""

    def cancel(self) -> None:
        """Ends the work in progress as soon as the current batch is done; that work is `Refused(cancelled)`."""
