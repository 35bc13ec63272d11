"""The study: what is trained together, by which rules. Read from `study.toml`; approved at a site by its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from polyward_shared.aggregation import Aggregation, Participation, Sharing
from polyward_shared.encoders import Custom, Encoder, Positive, SegRes
from polyward_shared.reading import Frozen, formed, read_toml
from polyward_shared.schema import BRANCHES, ENCODER, PRECISION, STATISTICS
from polyward_shared.tasks import Task, TaskName
from polyward_shared.topologies import Graph, Topology, graph_of
from polyward_shared.training import Balancer, Personal, Training

Name = Annotated[
    str, formed(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "1 to 63 letters, digits, dots, underscores or dashes")
]


class Image(Frozen):
    """The form in which every site presents its images to the encoder."""

    channels: int = Field(default=1, ge=1, le=64)  # 1 for grey images and single volumes, 3 for colour
    size: tuple[Positive, ...] = Field(min_length=2, max_length=3)  # sides in pixels: two for images, three for volumes
    intensity: Literal["minmax", "zscore"] | tuple[float, float] = "minmax"  # a pair: clip to it, then 0..1
    spacing: tuple[float, ...] | None = None  # mm; resample volumes to it before fitting `size`
    window: tuple[Positive, ...] | None = None  # train on random windows of this size, infer with sliding ones

    @property
    def seen(self) -> tuple[int, ...]:
        """The spatial size that the encoder sees at once."""
        return self.window or self.size

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.spacing is not None and (len(self.spacing) != len(self.size) or min(self.spacing) <= 0):
            raise ValueError(
                f"spacing: found {list(self.spacing)}; expected a positive number for each of the {len(self.size)} "
                "dimensions of size"
            )
        if self.window is not None and (
            len(self.window) != len(self.size) or any(w > s for w, s in zip(self.window, self.size, strict=False))
        ):
            raise ValueError(f"window: found {list(self.window)}; expected no side longer than size {list(self.size)}")
        if isinstance(self.intensity, tuple) and self.intensity[0] >= self.intensity[1]:
            raise ValueError(f"intensity: found {list(self.intensity)}; expected the lower bound first")
        return self


class Side(Frozen):
    """An input besides the image, from a column of the manifest: a number, or one of several classes."""

    kind: Literal["number", "category"]
    classes: tuple[str, ...] = ()  # of a category
    column: str | None = None  # the input's name when absent

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "category") != bool(self.classes) or len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: expected different names for a category, and none for a number")
        return self

    @property
    def width(self) -> int:
        """Values that a branch sees: one for each class, or the number itself, and one that says it is missing."""
        return (len(self.classes) or 1) + 1


class Branches(Frozen):
    """What all branches have in common."""

    decoder: Literal["residual", "unet"] = "residual"  # additive skips, or concatenated ones with two convolutions
    hidden: int = Field(default=64, ge=4, le=4096)  # features of an image-level branch before its head
    dropout: float = Field(default=0.0, ge=0, lt=1)  # before the head; needed for uncertainty
    attention: Literal["none", "cbam"] = "none"  # of each branch on the deepest features (Woo et al., arXiv 1807.06521)


class Evaluation(Frozen):
    """Which splits are measured, and in which rounds (the last is always)."""

    splits: tuple[Literal["val", "test"], ...] = ("val", "test")
    every: Positive = 1
    resamples: int = Field(default=0, ge=0, le=10_000)  # bootstrap over patients in the last figures; 0: no intervals

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

    id: Name  # letters, digits, dots, dashes
    seed: int = Field(default=0, ge=0, lt=2**32)  # of the first encoder and of every draw
    rounds: Positive  # after each, every site has the same encoder again
    image: Image
    encoder: Encoder = SegRes()
    tasks: dict[TaskName, Task] = Field(min_length=1)
    side: dict[TaskName, Side] = Field(default_factory=dict)
    branches: Branches = Branches()
    topology: Topology = Topology()
    balancer: Balancer = Balancer()
    training: Training = Training()
    personal: Personal = Personal()
    sharing: Sharing = Sharing()
    aggregation: Aggregation = Aggregation()
    participation: Participation = Participation()
    evaluation: Evaluation = Evaluation()
    wire: Wire = Wire()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        step = self.encoder.divisor
        if any(side % step for side in self.image.seen):
            key = "window" if self.image.window else "size"
            raise ValueError(
                f"image.{key}: found {list(self.image.seen)}; this encoder needs every side to be a multiple of {step}"
            )
        if isinstance(self.encoder, SegRes) and self.encoder.filters % self.encoder.groups:
            raise ValueError(
                f"encoder.groups: found {self.encoder.groups}; expected a divisor of encoder.filters "
                f"({self.encoder.filters})"
            )
        for task in self.participation.task_quorum:
            if task not in self.tasks:
                raise ValueError(f"participation.task_quorum: found {task!r}; expected a task of the study")
        self._check_tasks()
        self._check_federation()
        return self

    def _check_tasks(self) -> None:
        graph = self.graph(self.topology)
        if self.training.patience and "val" not in self.evaluation.splits:
            raise ValueError("training.patience: branches rest by their val loss; expected val in evaluation.splits")
        if graph.interactions and (self.sharing.branches == "task" or self.aggregation.rule == "fedhca2"):
            raise ValueError(
                f"sharing.branches: found {self.sharing.branches!r} with the rule {self.aggregation.rule!r}, but "
                "branches that exchange features at their site are fitted to its other tasks and cannot cross; "
                "expected 'site' and another rule than fedhca2, or a topology without interactions"
            )
        columns = sorted({column for task in self.tasks.values() if (column := getattr(task, "group", None))})
        if len(columns) > 1:
            raise ValueError(
                f"tasks: found the groups {', '.join(columns)}; expected one column, since a batch holds whole groups"
            )
        for name, task in self.tasks.items():
            if unknown := [side for side in task.side if side not in self.side]:
                raise ValueError(
                    f"tasks.{name}.side: found {unknown[0]!r}; expected inputs that the study names in side"
                )
            if task.weight != 1 and self.balancer.kind != "fixed":
                raise ValueError(
                    f"tasks.{name}.weight: found {task.weight}, but the balancer {self.balancer.kind!r} chooses the "
                    'weights; expected balancer.kind = "fixed"'
                )
            if self.image.window is not None and task.level == "image":
                raise ValueError(
                    f"tasks.{name}: a window shows a part of the image, and a task of the kind {task.kind!r} needs "
                    "the whole; expected image.window only with tasks that answer for each place"
                )

    def _check_federation(self) -> None:
        """What schedule, sharing and aggregation ask of each other."""
        training, sharing, rule = self.training, self.sharing, self.aggregation
        if self.participation.quorum < rule.fewest:
            raise ValueError(
                f"participation.quorum: found {self.participation.quorum}; the rule {rule.rule!r} as it is set needs "
                f"at least {rule.fewest} updates in every round"
            )
        if training.schedule == "fedbabu" and (sharing.branches != "site" or not training.final_epochs):
            raise ValueError(
                "training.schedule: with 'fedbabu' branches move only after the last round; expected "
                "sharing.branches = 'site' and training.final_epochs above 0"
            )
        if rule.traits.encoders != "one" and sharing.branches != "site":
            raise ValueError(
                f"sharing.branches: found {sharing.branches!r}, but with the rule {rule.rule!r} owners of a task may "
                "hold different encoders; expected 'site'"
            )
        if rule.rule == "precision" and self.wire.codec != "float32":
            raise ValueError("wire.codec: the rule 'precision' sends how sure weights are; expected 'float32'")
        if sharing.norm_statistics == "shared" and (self.wire.codec != "float32" or rule.traits.robust):
            raise ValueError(
                "sharing.norm_statistics: found 'shared'; squares need wire.codec = 'float32' to give a variance, and "
                f"a rule like {rule.rule!r} does not hold for them; expected float32 and a rule that is no robust one"
            )
        if self.personal.alone and self.encoder.start != "seed" and self.participation.sample < 1:
            raise ValueError(
                "personal.alone: found true, but a site that is not asked in the first round never sees the registered "
                "encoder that the study starts with; expected participation.sample = 1, or false"
            )
        batch_norm = isinstance(self.encoder, Custom) or getattr(self.encoder, "norm", "") == "batch"
        if sharing.norm_statistics == "shared" and not batch_norm:
            raise ValueError(
                "sharing.norm_statistics: found 'shared', but this encoder's norms have no running statistics; "
                "expected 'site', or encoder.norm = 'batch'"
            )

    def graph(self, topology: Topology) -> Graph:
        """The edges that a topology, the study's or a site's own, makes of its tasks. Raises ValueError."""
        graph = graph_of(topology, self.tasks)
        if any(edge.passes for edge in graph.cascades) and not self.branches.dropout:
            raise ValueError("branches.dropout: found 0.0; uncertainty by dropout needs a share above 0, such as 0.2")
        return graph

    def groups(self, tasks: Iterable[str]) -> set[str]:
        """The groups of arrays that cross between the hub and a site with these tasks."""
        wanted = {ENCODER}
        if self.sharing.branches != "site" or self.aggregation.rule == "fedhca2":
            wanted |= {f"{BRANCHES}.{task}" for task in tasks}
        if self.aggregation.rule == "precision":
            wanted.add(PRECISION)
        if self.sharing.norm_statistics == "shared":
            wanted.add(STATISTICS)
        return wanted

    def canonical(self) -> str:
        """The study as one line of JSON in which equal studies are equal, defaults filled in."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of the canonical form: what a site approves."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def read_study(path: Path) -> Study:
    """The study of a `study.toml`. Raises `Problem`."""
    return read_toml(path, Study)
