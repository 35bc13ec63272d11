"""What the ledger holds, record by record."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Where a study stands."""

    DRAFT = "draft"  # written and shown to sites, not yet to be run
    QUEUED = "queued"  # its turn comes when those before it have ended
    WAITING = "waiting"  # its turn is now, but too few sites have approved it, or are here
    RUNNING = "running"
    PAUSED = "paused"  # by a person, after the round that was being run
    RESUMING = "resuming"  # the hub or a person has just started it again
    FINISHED = "finished"
    STOPPED = "stopped"  # by a person
    FAILED = "failed"  # the reason stands beside it


RUNS = (State.RUNNING, State.RESUMING, State.WAITING, State.QUEUED)  # that a runner takes, in this order
ENDED = (State.FINISHED, State.STOPPED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for people who watch; `site` is the authenticated one, or empty; `actor` the person."""

    study: str
    round: int
    site: str
    what: str
    detail: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """An event as the ledger keeps it: its number, when (ISO 8601), and the hash of it and the one before."""

    number: int
    at: str
    event: Event
    hash: str


@dataclass(frozen=True, slots=True)
class Member:
    """What a site brought to a study when it joined."""

    site: str
    samples: int
    counts: dict[str, int]
    schema: str
    software: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Contribution:
    """One accepted update."""

    site: str
    attempt: int
    weight: int
    norm: float
    sha256: str
    bytes_up: int
    bytes_down: int
    seconds: float
    steps: int = 0
    scale: float = 1.0  # below 1 where the update was cut to a usual length
    share: float | None = None  # of the encoder's step; None where the rule makes no common step
    agreement: float | None = None  # cosine with the weighted sum of the others


@dataclass(frozen=True, slots=True)
class Signals:
    """What a round's updates of the encoder say together; None where there was nothing to say it of."""

    step: float | None = None  # length of the encoder's step
    drift: float | None = None  # its distance from the first encoder
    cancellation: float | None = None  # part of the sites' lengths that was lost in the sum
    orthogonal: float | None = None  # the same if their updates stood at right angles
    effective: float | None = None  # as many equally weighted sites would tell as much


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sites' updates of the encoder in one round."""

    site: str
    other: str
    cosine: float
    magnitude: float


@dataclass(frozen=True, slots=True)
class Round:
    """One committed round; round 0 is the first state. `memory` is the registry's digest of what the rule remembers,
    `variants` says which sites hold which of several states of a group."""

    number: int
    state: str
    encoder: str
    seconds: float
    memory: str = ""
    variants: dict[str, dict[str, str]] = field(default_factory=dict)
    signals: Signals = Signals()
    committed: str = field(default="", compare=False)  # when (ISO 8601), as the ledger says
