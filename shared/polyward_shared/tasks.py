"""What can be learnt from an image: the kinds of tasks, and the metrics that each kind may report.

The name of a task is the federation's key, a column of the manifest and a part of parameter names, so it is
restricted to `[a-z][a-z0-9_]*` and may not be a name that `torch.nn.ModuleDict` already has.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from polyward_shared.reading import Frozen

RESERVED = frozenset({"type", "train", "eval", "keys", "values", "items", "pop", "clear", "update", "forward"})


def _task_name(name: str) -> str:
    first, rest = name[:1], name[1:]
    letters = first.isascii() and first.islower() and all(c.isascii() and (c.isalnum() or c == "_") for c in rest)
    if not letters or name != name.lower() or len(name) > 40:
        raise ValueError("expected a task name of small letters, digits and underscores, at most 40")
    if name in RESERVED:
        raise ValueError(f"the task name {name!r} is reserved; choose another")
    return name


TaskName = Annotated[str, AfterValidator(_task_name)]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise ValueError("expected class names that differ and are not empty")
    return names


ClassNames = Annotated[tuple[str, ...], Field(min_length=2, max_length=200), AfterValidator(_distinct)]
Foreground = Annotated[tuple[str, ...], Field(min_length=1, max_length=100), AfterValidator(_distinct)]


class _Task(Frozen):
    column: str | None = None  # in the manifest; the task's name when absent
    weight: float = Field(default=1.0, gt=0)


class Binary(_Task):
    """One logit; the column holds 0 or 1."""

    kind: Literal["binary"]


class Multiclass(_Task):
    """One of several classes; the column holds a class name, or its number counted from 0."""

    kind: Literal["multiclass"]
    classes: ClassNames


class Ordinal(_Task):
    """Classes in an order, lowest first; the column holds a class name."""

    kind: Literal["ordinal"]
    classes: ClassNames


class Regression(_Task):
    """A number; its mean and spread stay at the site, where the target is standardised."""

    kind: Literal["regression"]


class Segmentation(_Task):
    """A mask file for each image; `classes` names the foreground labels 1, 2, ... in order."""

    kind: Literal["segmentation"]
    classes: Foreground = ("foreground",)


Task = Annotated[Binary | Multiclass | Ordinal | Regression | Segmentation, Field(discriminator="kind")]

# The only metric names that may leave a site, first the one that tables show.
METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("auroc", "balanced_accuracy", "loss"),
    "multiclass": ("balanced_accuracy", "macro_f1", "loss"),
    "ordinal": ("kappa", "mae", "loss"),
    "regression": ("mae", "r2", "loss"),
    "segmentation": ("dice", "loss"),
}
LOWER_IS_BETTER = frozenset({"mae", "loss"})


def outputs(task: Task) -> int:
    """Channels of the task's last layer."""
    match task:
        case Binary() | Regression():
            return 1
        case Multiclass():
            return len(task.classes)
        case Ordinal():
            return len(task.classes) - 1
        case Segmentation():
            return len(task.classes) + 1
