"""The study: what is trained together, by which rules. Read from `study.toml`; approved at a site by its digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from polyward_shared.reading import Frozen, formed, read_toml
from polyward_shared.tasks import Task, TaskName

Name = Annotated[
    str, formed(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "1 to 63 letters, digits, dots, underscores or dashes")
]
Digest = Annotated[str, formed(r"[0-9a-f]{64}", "a digest of 64 hexadecimal digits")]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=10)]


class Image(Frozen):
    """The form in which every site presents its images to the encoder."""

    channels: int = Field(default=1, ge=1, le=64)
    size: tuple[Positive, ...] = Field(min_length=2, max_length=3)
    intensity: Literal["minmax", "zscore"] | tuple[float, float] = "minmax"  # a pair: clip to it, then 0..1
    spacing: tuple[float, ...] | None = None  # mm; resample volumes to it before fitting `size`

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.spacing is not None and (len(self.spacing) != len(self.size) or min(self.spacing) <= 0):
            raise ValueError(
                f"spacing: found {list(self.spacing)}; expected a positive number for each of the {len(self.size)} "
                "dimensions of size"
            )
        if isinstance(self.intensity, tuple) and self.intensity[0] >= self.intensity[1]:
            raise ValueError(f"intensity: found {list(self.intensity)}; expected the lower bound first")
        return self


class Encoder(Frozen):
    """The shared part. `blocks` has one entry per level; every level halves the image."""

    kind: Literal["segres"] = "segres"
    filters: int = Field(default=16, ge=4, le=256)
    blocks: tuple[Positive, ...] = Field(default=(1, 2, 2, 4), min_length=2, max_length=6)
    groups: int = Field(default=4, ge=1)
    start: Literal["seed"] | Digest = "seed"  # or the digest of an encoder in the hub's registry


class Topology(Frozen):
    """How branches hang on the encoder and on one another."""

    kind: Literal["parallel"] = "parallel"


class Training(Frozen):
    """One site's work in a round."""

    schedule: Literal["fedrep", "fedper"] = "fedper"
    epochs: Positive = 1  # of the encoder (fedrep) or of everything together (fedper)
    branch_epochs: Positive = 1  # fedrep: of the branches, before the encoder moves
    final_epochs: int = Field(default=3, ge=0)  # of the branches, after the last round
    batch: Positive = 8
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Rate = 1e-3
    branch_learning_rate: Rate = 2e-3
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)  # sgd only
    gradient_clip: float = Field(default=1.0, gt=0)  # norm, per part
    augmentation: Literal["none", "light"] = "light"
    balancer: Literal["equal"] = "equal"
    empty_mask: Literal["smooth", "skip", "keep"] = "smooth"  # Dice on images without foreground


class Sharing(Frozen):
    """What crosses besides the encoder: nothing, or branches among the owners of the same task."""

    branches: Literal["site", "task"] = "site"


class Aggregation(Frozen):
    """How much a site's update counts."""

    weighting: Literal["samples", "tasks", "uniform"] = "samples"
    task_exponent: float = Field(default=0.5, ge=0, le=1)  # `tasks` only: 1 follows counts, 0 treats owners alike


class Participation(Frozen):
    """Who is needed, and how long the others are waited for."""

    quorum: Positive = 2
    task_quorum: dict[TaskName, Positive] = Field(default_factory=dict)
    deadline_seconds: float = Field(default=3600.0, gt=0)  # of a round, once its orders are out
    rejoin_seconds: float = Field(default=30.0, ge=0)  # how long a site that went offline is waited for


class Evaluation(Frozen):
    """Which splits are measured, and in which rounds (the last is always)."""

    splits: tuple[Literal["val", "test"], ...] = ("val", "test")
    every: Positive = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.splits)) != len(self.splits):
            raise ValueError(f"splits: found {list(self.splits)}; expected each split once")
        return self


class Wire(Frozen):
    """The form of the arrays on the way, and the bound that every update must keep."""

    codec: Literal["float32", "bfloat16"] = "float32"
    update_norm: float = Field(default=1000.0, gt=0)  # L2 norm of the change of the shared arrays


class Study(Frozen):
    """One study, whole. Two studies with the same digest train the same thing."""

    id: Name
    seed: int = Field(default=0, ge=0, lt=2**32)
    rounds: Positive
    image: Image
    encoder: Encoder = Encoder()
    tasks: dict[TaskName, Task] = Field(min_length=1)
    topology: Topology = Topology()
    training: Training = Training()
    sharing: Sharing = Sharing()
    aggregation: Aggregation = Aggregation()
    participation: Participation = Participation()
    evaluation: Evaluation = Evaluation()
    wire: Wire = Wire()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        step = 2 ** (len(self.encoder.blocks) - 1)
        if any(side % step for side in self.image.size):
            raise ValueError(
                f"image.size: found {list(self.image.size)}; {len(self.encoder.blocks)} encoder levels "
                f"need every side to be a multiple of {step}"
            )
        if self.encoder.filters % self.encoder.groups:
            raise ValueError(
                f"encoder.groups: found {self.encoder.groups}; expected a divisor of encoder.filters "
                f"({self.encoder.filters})"
            )
        for task in self.participation.task_quorum:
            if task not in self.tasks:
                raise ValueError(f"participation.task_quorum: found {task!r}; expected a task of the study")
        return self

    def canonical(self) -> str:
        """The study as one line of JSON in which equal studies are equal, defaults filled in."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of the canonical form: what a site approves."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def read_study(path: Path) -> Study:
    """The study of a `study.toml`. Raises `Problem`."""
    return read_toml(path, Study)
