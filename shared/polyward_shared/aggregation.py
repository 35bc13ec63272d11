"""What crosses, how the hub combines it, and who takes part: the rules of a study, and what each rule needs.

A rule *streams* when the hub can add a site's update to a sum and forget it; the others need all updates of a round
side by side. A rule works under *secure sums* when it is made of weighted sums alone, so that a protocol which reveals
nothing but sums could carry it. `encoders` says whether all sites go on from one encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from polyward_shared.encoders import Positive
from polyward_shared.reading import Frozen
from polyward_shared.tasks import TaskName

Rule = Literal["mean", "precision", "trimmed_mean", "median", "krum", "mgda", "pcgrad", "cagrad", "clusters", "fedhca2"]


@dataclass(frozen=True, slots=True)
class Traits:
    """What a rule is like."""

    streams: bool = False
    secure_sums: bool = False
    weighs: bool = False  # follows aggregation.weighting; else every site counts alike
    robust: bool = False  # holds for branches that cross as for the encoder
    encoders: Literal["one", "several", "each"] = "one"


RULES: dict[Rule, Traits] = {
    "mean": Traits(streams=True, secure_sums=True, weighs=True),
    "precision": Traits(secure_sums=True, weighs=True),  # two sums; kept side by side here, for exact repeats
    "trimmed_mean": Traits(robust=True),
    "median": Traits(robust=True),
    "krum": Traits(robust=True),
    "mgda": Traits(),
    "pcgrad": Traits(),
    "cagrad": Traits(),
    "clusters": Traits(weighs=True, encoders="several"),
    "fedhca2": Traits(encoders="each"),
}


class Sharing(Frozen):
    """What crosses besides the encoder's weights."""

    # site: no branch; task: each branch among all owners of its task; taskset: among sites with the very same tasks
    branches: Literal["site", "taskset", "task"] = "site"
    norm_affine: Literal["auto", "shared", "site"] = "auto"  # scales and shifts of norms; auto: all but batch norm's
    norm_statistics: Literal["site", "shared"] = "site"  # running means and variances of batch norm; site: FedBN
    private_encoder: bool = False  # a second encoder of the same kind, beside the shared one, that never leaves


class Aggregation(Frozen):
    """From the sites' updates to the next encoder. What each rule means stands in the hub's folder `aggregate`."""

    rule: Rule = "mean"
    weighting: Literal["samples", "tasks", "uniform"] = "samples"
    task_exponent: float = Field(default=0.5, ge=0, le=1)  # `tasks` only: 1 follows counts, 0 treats owners alike
    largest_share: float = Field(default=1.0, gt=0, le=1)  # of one site among those that a round asks
    clip: float = Field(default=3.0, ge=0)  # times the usual length of an update, to which longer ones are cut; 0: none
    c: float = Field(default=0.4, ge=0, lt=1)  # cagrad and fedhca2
    faulty: Positive = 1  # krum: sites that may lie; trimmed_mean: values left out at either end
    clusters: int = Field(default=2, ge=2, le=64)  # clusters: how many encoders
    optimiser: Literal["none", "momentum", "adam", "yogi", "adagrad"] = "none"  # FedOpt, on what the rule gives
    rate: float = Field(default=1.0, gt=0, le=100)  # of the optimiser
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=1e-3, gt=0)

    @property
    def traits(self) -> Traits:
        return RULES[self.rule]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.traits.weighs and self.weighting != "uniform":
            raise ValueError(
                f"weighting: found {self.weighting!r}, but the rule {self.rule!r} counts every site alike; "
                "expected 'uniform'"
            )
        if not self.traits.weighs and self.largest_share < 1:
            raise ValueError(f"largest_share: found {self.largest_share}; the rule {self.rule!r} weighs no site")
        if self.optimiser != "none" and self.traits.encoders != "one":
            raise ValueError(
                f"optimiser: found {self.optimiser!r}, which follows one encoder; the rule {self.rule!r} keeps "
                "several; expected 'none'"
            )
        return self

    @property
    def fewest(self) -> int:
        """How many updates the rule needs at least."""
        match self.rule:
            case "krum":
                return 2 * self.faulty + 3
            case "trimmed_mean":
                return 2 * self.faulty + 1
            case "median":
                return 3
            case "clusters":
                return self.clusters
            case _:
                return 1


class Participation(Frozen):
    """Who is needed, and how long the others are waited for."""

    quorum: Positive = 2  # sites that a round cannot do without
    task_quorum: dict[TaskName, Positive] = Field(default_factory=dict)
    sample: float = Field(default=1.0, gt=0, le=1)  # the part of the sites that a round asks, never below the quorum
    deadline_seconds: float = Field(default=3600.0, gt=0)  # of a round, once its orders are out
    stall_seconds: float = Field(default=300.0, gt=0)  # past the deadline, a site is waited for while it progresses
    longest_seconds: float = Field(default=6 * 3600.0, gt=0)  # but never longer than this
    rejoin_seconds: float = Field(default=30.0, ge=0)  # how long a site that went offline is waited for

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.longest_seconds < self.deadline_seconds:
            raise ValueError(
                f"longest_seconds: found {self.longest_seconds:g}; expected at least deadline_seconds "
                f"({self.deadline_seconds:g})"
            )
        return self
