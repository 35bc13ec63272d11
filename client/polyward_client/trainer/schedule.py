"""Which parts train when: schedules as data.

FedRep (Collins et al., arXiv 2102.07078, algorithm 1): first the branches on the received encoder, then the encoder
for those branches, and the branches once more at the end. FedPer (Arivazhagan et al., arXiv 1912.00818): everything
together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from polyward_shared.schema import ENCODER
from polyward_shared.study import Training

Trainable = Literal["encoder", "personal"]


@dataclass(frozen=True, slots=True)
class Phase:
    """So many epochs in which these parts move, each with its learning rate; all others stand still."""

    name: str
    epochs: int
    rates: dict[Trainable, float]

    def rate(self, part: str) -> float | None:
        """The learning rate of `encoder`, `branches.<task>` or `interaction`; None while it stands still."""
        return self.rates.get("encoder" if part == ENCODER else "personal")


def round_phases(training: Training) -> tuple[Phase, ...]:
    """One round of the study's schedule."""
    encoder, personal = training.learning_rate, training.branch_learning_rate
    match training.schedule:
        case "fedrep":
            return (
                Phase("branches", training.branch_epochs, {"personal": personal}),
                Phase("encoder", training.epochs, {"encoder": encoder}),
            )
        case "fedper":
            return (Phase("together", training.epochs, {"encoder": encoder, "personal": personal}),)


def final_phases(training: Training) -> tuple[Phase, ...]:
    """After the last round: the branches on the last encoder."""
    return (Phase("final", training.final_epochs, {"personal": training.branch_learning_rate}),)
