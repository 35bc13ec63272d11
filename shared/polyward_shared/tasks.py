"""What can be learnt from an image: the kinds of tasks, and the metrics that each kind may report.

The name of a task is the federation's key, a column of the manifest and a part of parameter names, so it is
restricted to `[a-z][a-z0-9_]*` and may not be a name that `torch.nn.ModuleDict` already has.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from polyward_shared.reading import Frozen

RESERVED = frozenset({"type", "train", "eval", "keys", "values", "items", "pop", "clear", "update", "forward"})

Level = Literal["image", "map"]  # one answer for the whole image, or one for each of its places


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


def _rising(times: tuple[float, ...]) -> tuple[float, ...]:
    if times[0] <= 0 or any(after <= before for before, after in pairwise(times)):
        raise ValueError("expected times above 0, each above the one before")
    return times


ClassNames = Annotated[tuple[str, ...], Field(min_length=2, max_length=200), AfterValidator(_distinct)]
Findings = Annotated[tuple[str, ...], Field(min_length=1, max_length=200), AfterValidator(_distinct)]
Foreground = Annotated[tuple[str, ...], Field(min_length=1, max_length=100), AfterValidator(_distinct)]
Times = Annotated[tuple[float, ...], Field(min_length=2, max_length=100), AfterValidator(_rising)]
Pixels = Annotated[float, Field(gt=0, le=100)]


class _Task(Frozen):
    level: ClassVar[Level] = "image"
    column: str | None = None  # in the manifest; the task's name when absent
    weight: float = Field(default=1.0, gt=0)  # used by the balancer `fixed`
    side: tuple[TaskName, ...] = ()  # inputs besides the image, of those that the study names


class _Pooled(_Task):
    """A task whose label may belong to several images, such as the slices of a patient or the tiles of a slide."""

    group: str | None = None  # the manifest's column that says which images belong together, such as patient_id
    pooling: Literal["mean", "attention"] = "mean"  # how the images of a group become one answer

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        if self.pooling != "mean" and self.group is None:
            raise ValueError(
                f"pooling: found {self.pooling!r} without a group; expected `group`, the manifest's column that says "
                "which images belong together"
            )
        return self


class Binary(_Pooled):
    """One logit; the column holds 0 or 1."""

    kind: Literal["binary"]
    positive_weight: float = Field(default=1.0, gt=0)  # of the cases labelled 1 in the loss


class Multiclass(_Pooled):
    """One of several classes; the column holds a class name, or its number counted from 0."""

    kind: Literal["multiclass"]
    classes: ClassNames
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Multilabel(_Pooled):
    """Findings that occur together. One column for each: 1, 0, -1 for uncertain, or empty for not stated."""

    kind: Literal["multilabel"]
    classes: Findings
    columns: tuple[str, ...] = ()  # in the order of the classes; the classes' names when absent
    uncertain: Literal["ignore", "positive", "negative"] = "ignore"


class Ordinal(_Pooled):
    """Classes in an order, lowest first; the column holds a class name."""

    kind: Literal["ordinal"]
    classes: ClassNames
    loss: Literal["coral", "corn"] = "coral"


class Regression(_Pooled):
    """A number; its mean and spread stay at the site, where the target is standardised."""

    kind: Literal["regression"]
    unit: str = Field(default="", max_length=20)  # shown beside the error


class Survival(_Pooled):
    """Time to an event. The column holds the time, a second one whether the event (1) or only its absence (0) was seen.

    `hazard` predicts a logit for each interval that ends at one of `times`; `cox` one risk for each case.
    """

    kind: Literal["survival"]
    times: Times  # the ends of the intervals, in the unit of the column
    event: str | None = None  # that second column; `<column>_event` when absent
    loss: Literal["hazard", "cox"] = "hazard"


class Segmentation(_Task):
    """A mask file for each image; `classes` names the foreground labels 1, 2, ... in order."""

    level: ClassVar[Level] = "map"
    kind: Literal["segmentation"]
    classes: Foreground = ("foreground",)
    ignore: int | None = Field(default=None, ge=1, le=255)  # the mask's value for places that nobody judged
    loss: Literal["dice_ce", "dice_focal", "tversky"] = "dice_ce"
    surface: Pixels | None = None  # tolerance in pixels; when set, distances of surfaces are measured too

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ignore is not None and self.ignore <= len(self.classes):
            raise ValueError(
                f"ignore: found {self.ignore}, which is the label of {self.classes[self.ignore - 1]!r}; expected a "
                f"value above {len(self.classes)}"
            )
        return self


class Landmark(_Task):
    """Named places. The column holds `x y` in pixels of the image as stored, `;` between places, `-` for one unseen."""

    level: ClassVar[Level] = "map"
    kind: Literal["landmark"]
    points: Findings
    sigma: Pixels = 2.0  # of the heat map's bell
    tolerance: Pixels = 3.0  # in pixels of the study's form: a place nearer than this is found


class Centreline(_Task):
    """A mask file of a tubular structure; its centreline is computed, and learnt as a map of distances."""

    level: ClassVar[Level] = "map"
    kind: Literal["centreline"]
    reach: Pixels = 8.0  # distances beyond it are not told apart
    tolerance: Pixels = 1.0  # how near two centrelines must lie to agree


class Detection(_Task):
    """Boxes. The column holds `x0 y0 x1 y1 class` in pixels of the image as stored, `;` between boxes, or `none`."""

    level: ClassVar[Level] = "map"
    kind: Literal["detection"]
    classes: Findings = ("object",)
    most: int = Field(default=32, ge=1, le=1000)  # boxes of one image
    overlap: float = Field(default=0.5, gt=0, lt=1)  # intersection over union from which a box is found


class Synthesis(_Task):
    """Another image of the same patient (`file`), or the image itself (`input`), which needs no label."""

    level: ClassVar[Level] = "map"
    kind: Literal["synthesis"]
    target: Literal["file", "input"] = "file"
    channels: int = Field(default=1, ge=1, le=64)  # of the target file
    intensity: Literal["minmax", "zscore"] | tuple[float, float] = "minmax"  # as the study's image.intensity
    ssim_weight: float = Field(default=0.5, ge=0)  # of 1 - SSIM beside the mean absolute error


Task = Annotated[
    Binary
    | Multiclass
    | Multilabel
    | Ordinal
    | Regression
    | Survival
    | Segmentation
    | Landmark
    | Centreline
    | Detection
    | Synthesis,
    Field(discriminator="kind"),
]

# The only metric names that may leave a site, first the one that tables show.
METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity", "brier", "loss"),
    "multiclass": ("balanced_accuracy", "macro_f1", "accuracy", "macro_auroc", "loss"),
    "multilabel": ("macro_auroc", "mean_precision", "loss"),
    "ordinal": ("kappa", "mae", "one_off", "loss"),
    "regression": ("mae", "rmse", "r2", "concordance", "loss"),
    "survival": ("c_index", "brier", "loss"),
    "segmentation": ("dice", "iou", "precision", "recall", "hd95", "assd", "surface_dice", "loss"),
    "landmark": ("radial_error", "found", "loss"),
    "centreline": ("cldice", "dice", "line_agreement", "loss"),
    "detection": ("average_precision", "froc", "loss"),
    "synthesis": ("psnr", "ssim", "mae", "loss"),
}
LOWER_IS_BETTER = frozenset({"mae", "rmse", "brier", "hd95", "assd", "radial_error", "loss"})


def gain(metric: str, value: float, than: float) -> float:
    """What a figure has over another of the same name, positive when it is better."""
    return than - value if metric in LOWER_IS_BETTER else value - than


def better(metric: str, value: float, than: float) -> bool:
    """Whether a figure is better than another of the same name."""
    return value < than if metric in LOWER_IS_BETTER else value > than


def arrow(metric: str) -> str:
    """Where better lies, for people."""
    return "↓" if metric in LOWER_IS_BETTER else "↑"
