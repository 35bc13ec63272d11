"""Which parts train when: schedules as data.

FedRep (Collins et al., arXiv 2102.07078, algorithm 1): first the branches on the received encoder, then the encoder
for those branches, and the branches once more at the end. FedPer (Arivazhagan et al., arXiv 1912.00818): everything
together. FedBABU (Oh et al., arXiv 2106.06042): the encoder alone, for branches that stay as the study's seed made
them, and those after the last round. Across the rounds both learning rates follow `rate_schedule`.

A site's private encoder moves in every phase, with the encoder's rate: in FENDA (Tavakoli et al., arXiv 2309.16825) it
is trained whenever the shared one is, and it is as personal as the branches, so where they are fitted to what was
received, or tuned at the end, it is too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from polyward_shared.schema import ENCODER
from polyward_shared.training import Training

PRIVATE = "private"
Trainable = Literal["encoder", "private", "personal"]


@dataclass(frozen=True, slots=True)
class Phase:
    """So many epochs in which these parts move, each with its learning rate; all others stand still."""

    name: str
    epochs: int
    rates: dict[Trainable, float]

    def rate(self, part: str) -> float | None:
        """The learning rate of `encoder`, `private`, `branches.<task>` or `interaction`; None while it stands still."""
        if part == ENCODER:
            return self.rates.get("encoder")
        return self.rates.get("private" if part == PRIVATE else "personal")


def rate_factor(training: Training, round: int, rounds: int) -> float:
    """What both learning rates are multiplied by in a round; `round` counts from 1 to `rounds`.

    The w warm-up rounds rise by equal steps, 1/(w+1), ..., w/(w+1), and the round after them has the full rates. From
    there `linear` and `cosine` (Loshchilov and Hutter, arXiv 1608.03983, eq. 5, without restarts) fall towards 0, which
    the last round stays above, for a round at rate 0 would teach nothing. Rounds beyond the last repeat its factor.
    """
    warmup, round = training.warmup_rounds, min(round, rounds)
    if round <= warmup:
        return round / (warmup + 1)
    passed = (round - warmup - 1) / (rounds - warmup)
    match training.rate_schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - passed
        case "cosine":
            return (1 + math.cos(math.pi * passed)) / 2


def round_phases(training: Training, round: int = 1, rounds: int = 1) -> tuple[Phase, ...]:
    """One round of the study's schedule, with the rates of that round."""
    factor = rate_factor(training, round, rounds)
    encoder, personal = factor * training.learning_rate, factor * training.branch_learning_rate
    match training.schedule:
        case "fedrep":
            return (
                Phase("branches", training.branch_epochs, {"private": encoder, "personal": personal}),
                Phase("encoder", training.epochs, {"encoder": encoder, "private": encoder}),
            )
        case "fedbabu":
            return (Phase("encoder", training.epochs, {"encoder": encoder, "private": encoder}),)
        case "fedper":
            rates: dict[Trainable, float] = {"encoder": encoder, "private": encoder, "personal": personal}
            return (Phase("together", training.epochs, rates),)


def join_phases(training: Training) -> tuple[Phase, ...]:
    """Before a site's first round, where the others are ahead of it: what is personal, at its full rates.

    Otherwise the gradients of branches that have learnt nothing would spoil an encoder that has. Branches that stand
    still until the end, as FedBABU's do, have nothing to catch up with.
    """
    if training.schedule == "fedbabu":
        return ()
    return (Phase("join", training.join_epochs, _personal(training)),)


def final_phases(training: Training) -> tuple[Phase, ...]:
    """After the last round, at the full rates: what is personal on the last encoder, or that encoder too."""
    rates = _personal(training)
    if training.final_parts == "all":
        rates["encoder"] = training.learning_rate
    return (Phase("final", training.final_epochs, rates),)


def _personal(training: Training) -> dict[Trainable, float]:
    return {"private": training.learning_rate, "personal": training.branch_learning_rate}
