"""What the hub asks of a site (an order) and what a site answers (a report).

A conversation: `join` (who are you, which labels, which first encoder do you get from the study's seed), then `train`
once for each round, then `finish` (tune the branches on the last encoder and measure). An order names the state it
starts from by digest, so the same order always has the same answer and may be repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from polyward_shared.codec import Codec
from polyward_shared.training import Personal


class Kind(StrEnum):
    """The three orders, as Flower message types: every other type is refused."""

    JOIN = "query.join"
    TRAIN = "train.round"
    FINISH = "evaluate.finish"


class Stage(StrEnum):
    """Which model a metric is about, and when: the federated one as received, after own training, after the final
    tuning; those trained beside it, in a round and at the end; and the one that the site keeps."""

    RECEIVED = "received"
    TRAINED = "trained"
    FINAL = "final"
    ALONE = "alone"
    ALONE_FINAL = "alone_final"
    DITTO = "ditto"
    DITTO_FINAL = "ditto_final"
    KEPT = "kept"


AT_THE_END = frozenset({Stage.FINAL, Stage.ALONE_FINAL, Stage.DITTO_FINAL, Stage.KEPT})
OF_THE_FEDERATED_MODEL = frozenset({Stage.RECEIVED, Stage.TRAINED, Stage.FINAL})
Kept = Literal["federated", "alone", "ditto"]  # the model that a site keeps for a task


def models_of(personal: Personal) -> tuple[Kept, ...]:
    """The models among which a site chooses for each task at the end; none where it trains only one."""
    models: list[Kept] = ["federated"]
    if personal.alone:
        models.append("alone")
    if personal.ditto:
        models.append("ditto")
    return tuple(models) if models[1:] else ()


def stages_of(kind: Kind, personal: Personal) -> frozenset[Stage]:
    """The stages that a report of this kind may tell of, under a study with these personal models."""
    stages = {Stage.FINAL} if kind is Kind.FINISH else {Stage.RECEIVED, Stage.TRAINED}
    if personal.alone:
        stages.add(Stage.ALONE_FINAL if kind is Kind.FINISH else Stage.ALONE)
    if personal.ditto:
        stages.add(Stage.DITTO_FINAL if kind is Kind.FINISH else Stage.DITTO)
    if kind is Kind.FINISH and models_of(personal):
        stages.add(Stage.KEPT)
    return frozenset() if kind is Kind.JOIN else frozenset(stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Hub to site. `payload` is the state of the site's shared arrays in `codec`, on `base_digest` if that is set."""

    kind: Kind
    study: str  # digest
    round: int = 0
    attempt: int = 1
    state_digest: str = ""
    base_digest: str = ""
    codec: Codec = "float32"
    want_state: bool = False  # join: send the first state's arrays, not only their digests
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of one task of one site, with the number of cases behind it and, where it was measured, an interval.

    `low` and `high` are the ends of the 95 % interval over patients, both or neither; the value may lie outside.
    """

    task: str
    split: str
    stage: Stage
    name: str
    value: float
    count: int
    low: float | None = None
    high: float | None = None


def is_interval(low: float | None, high: float | None) -> bool:
    """Whether these are the ends of an interval, or there is none: both or neither, finite, `low` <= `high`."""
    if low is None or high is None:
        return low is high
    return math.isfinite(low) and math.isfinite(high) and low <= high


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Site to hub. `payload` is the state after training, as `codec` says, on the state that the order named."""

    kind: Kind
    study: str
    round: int
    attempt: int
    state_digest: str  # the state that the order named and this report starts from
    codec: Codec = "float32"
    samples: int = 0  # distinct training images with at least one label
    counts: dict[str, int] = field(default_factory=dict)  # training labels of each task
    metrics: tuple[Metric, ...] = ()
    seconds: float = 0.0
    steps: int = 0  # of the optimiser, in a round
    kept: dict[str, Kept] = field(default_factory=dict)  # finish: which model the site keeps for each task
    schema: str = ""  # join: the schema as JSON
    first: dict[str, str] = field(default_factory=dict)  # join: digest of each group of the first state
    software: str = ""  # join: versions, for the hub's table
    payload: bytes = b""
