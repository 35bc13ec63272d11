"""A site's own work: how its tasks' losses combine, which parts train when, and what it trains beside them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from polyward_shared.encoders import Positive
from polyward_shared.reading import Frozen, formed

Rate = Annotated[float, Field(gt=0, lt=10)]

BALANCERS = (
    "equal",
    "fixed",
    "uncertainty",
    "dwa",
    "rlw",
    "gls",
    "imtl_l",
    "famo",
    "gradnorm",
    "pcgrad",
    "mgda",
    "imtl_g",
    "aligned_mtl",
    "cagrad",
    "db_mtl",
    "upgrad",
)
Augmentation = Literal["none", "light", "radiograph", "ct", "mri", "ultrasound", "fundus", "photo", "pathology"]


class Balancer(Frozen):
    """How the losses of a site's tasks combine. What each kind means stands in the trainer's folder `balance`."""

    kind: Annotated[
        str,
        formed("|".join((*BALANCERS, r"torchjd:[A-Za-z]+")), f"one of {', '.join(BALANCERS)}, or torchjd: and a name"),
    ] = "equal"
    space: Literal["features", "parameters"] = "features"  # where gradients are compared, for kinds that compare them
    temperature: float = Field(default=2.0, gt=0)  # dwa
    alpha: float = Field(default=1.5, ge=0)  # gradnorm
    c: float = Field(default=0.4, ge=0, lt=1)  # cagrad
    rate: float = Field(default=0.025, gt=0, lt=10)  # of what uncertainty, imtl_l, famo and gradnorm learn themselves
    decay: float = Field(default=0.9, ge=0, lt=1)  # db_mtl: how long it remembers gradients


class Training(Frozen):
    """One site's work in a round."""

    schedule: Literal["fedrep", "fedper", "fedbabu"] = "fedper"
    epochs: Positive = 1  # of the encoder (fedrep, fedbabu) or of everything together (fedper)
    branch_epochs: Positive = 1  # fedrep: of the branches, before the encoder moves
    final_epochs: int = Field(default=3, ge=0)  # after the last round
    final_parts: Literal["branches", "all"] = "branches"  # what they move: the branches, or the site's encoder too
    join_epochs: int = Field(default=2, ge=0)  # of the branches alone, first, at a site that joins later
    steps: int = Field(default=0, ge=0)  # of the optimiser in an epoch, whatever a site's size; 0: each image once
    proximal: float = Field(default=0.0, ge=0)  # FedProx: how strongly what is shared is held to what was received
    contrast: float = Field(default=0.0, ge=0)  # MOON: weight of features like the received encoder's, unlike the last
    contrast_temperature: float = Field(default=0.5, gt=0)
    batch: Positive = 8  # images in a step
    accumulate: Positive = 1  # batches whose gradients make one step; each counts the same, whatever labels it holds
    optimiser: Literal["adamw", "sgd", "acqn_like"] = "adamw"
    learning_rate: Rate = 1e-3
    branch_learning_rate: Rate = 2e-3
    rate_schedule: Literal["constant", "cosine", "linear"] = "constant"  # of both rates, across the rounds
    warmup_rounds: int = Field(default=0, ge=0)  # in which both rates rise to their values
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)  # sgd only
    gradient_clip: float = Field(default=1.0, gt=0)  # norm, per part
    augmentation: Augmentation = "light"  # all but none, radiograph and ct mirror left and right
    patience: int = Field(default=0, ge=0)  # measured rounds without a better val loss until a branch rests; 0: never
    empty_mask: Literal["smooth", "skip", "keep"] = "smooth"  # Dice on images without foreground


class Personal(Frozen):
    """Models that a site trains beside the federated one, by the same schedule, and keeps where they are better."""

    alone: bool = True  # never sees the federation's encoder: what federation has to beat, at the cost of as much work
    ditto: float = Field(default=0.0, ge=0)  # how strongly one is drawn to the received state (Ditto); 0: none
