"""One image's outputs -> the cells of the table that `predict` writes, by the kind of the task.

The first cell of a task has the task's name and what a manifest would hold: a class, a number, places, boxes. Those
after it tell more. A column `p.` holds probabilities that were calibrated here, `p_uncalibrated.` those that were not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from polyward_client.trainer.calibration import Calibration, chances
from polyward_client.trainer.form import unshaped_points
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks import TaskKind
from polyward_client.trainer.tasks.classes import BinaryKind, MulticlassKind, MultilabelKind
from polyward_client.trainer.tasks.detection import NONE, DetectionKind
from polyward_client.trainer.tasks.landmark import LandmarkKind, in_array_order, summits
from polyward_client.trainer.tasks.ordinal import OrdinalKind
from polyward_client.trainer.tasks.regression import RegressionKind
from polyward_client.trainer.tasks.survival import SurvivalKind, expected_time, survival
from polyward_client.trainer.topology.flow import entropy
from polyward_shared.study import Image

Cells = dict[str, str]
SURE = 0.5  # a finding is said to be there from this probability on
FOUND = 0.3  # the least score of a box that is told, as CenterNet's authors draw them

UNCALIBRATED = Calibration(None, 0, "")


def image_cells(kind: TaskKind, output: Tensor, head: nn.Module, calibration: Calibration = UNCALIBRATED) -> Cells:
    """The cells of an image-level task, from one image's or one group's output [channels]."""
    row = output[None, : kind.channels]
    match kind:
        case BinaryKind() | MulticlassKind() | OrdinalKind():
            return _classes(kind, row, calibration)
        case MultilabelKind():
            given = chances(kind, row)[0].tolist()
            there = [name for name, p in zip(kind.names, given, strict=True) if p >= SURE]
            each = {f"{kind.name}.p_uncalibrated.{n}": _share(p) for n, p in zip(kind.names, given, strict=True)}
            return {kind.name: ";".join(there), **each}
        case RegressionKind():
            mean, spread = head.get_buffer("target").cpu().tolist()
            return {kind.name: _number(float(row[0, 0]) * spread + mean)}
        case SurvivalKind() if kind.cox:
            return {kind.name: "", f"{kind.name}.log_risk": _number(float(row[0, 0]))}
        case SurvivalKind():
            curve = survival(row.double())
            told = {
                f"{kind.name}.survival.{time:g}": _share(p)
                for time, p in zip(kind.times, curve[0].tolist(), strict=True)
            }
            return {kind.name: _number(float(expected_time(curve, kind.times)[0])), **told}
    raise TypeError(type(kind).__name__)


def place_cells(kind: TaskKind, output: Tensor, picture: Picture, image: Image) -> Cells:
    """The cells of a task that answers with places [channels, *spatial], in the words and pixels of a manifest."""
    match kind:
        case LandmarkKind():
            points = summits(output[None], kind.sigma)[0].double().numpy()
            stored = unshaped_points(points, picture, image, where=kind.name)
            heights = output.flatten(1).amax(1).tolist()
            each = {f"{kind.name}.height.{n}": _share(h) for n, h in zip(kind.points, heights, strict=True)}
            return {kind.name: "; ".join(_words(in_array_order(tuple(place))) for place in stored), **each}
        case DetectionKind():
            scores, classes, corners = (found[0] for found in kind.found(output[None]))
            kept = (scores >= FOUND).nonzero()[:, 0].tolist()  # NaN is not
            ends = unshaped_points(corners.double().numpy().reshape(-1, kind.dims), picture, image, where=kind.name)
            boxes = (ends + 0.5).reshape(len(corners), 2 * kind.dims)  # borders count from 0
            told = [f"{_box(boxes[place], kind.dims)} {kind.names[int(classes[place])]}" for place in kept]
            said = "; ".join(_share(float(scores[place])) for place in kept)
            return {kind.name: "; ".join(told) or NONE, f"{kind.name}.scores": said}
    raise TypeError(type(kind).__name__)


def class_of(kind: TaskKind, output: Tensor) -> int:
    """The place of the class that one image's output [channels] names, as the figures count it."""
    match kind:
        case BinaryKind():
            return int(output[0] > 0)
        case OrdinalKind():
            return int((kind.passed(output[None, : kind.channels]) > 0.5).sum())
    return int(output[: kind.channels].argmax())


def _classes(kind: BinaryKind | MulticlassKind | OrdinalKind, row: Tensor, calibration: Calibration) -> Cells:
    given = chances(kind, row, calibration.divisor)
    column = "p" if calibration.temperature else "p_uncalibrated"
    names = kind.classes()
    each = {f"{kind.name}.{column}.{name}": _share(p) for name, p in zip(names, given[0].tolist(), strict=True)}
    return {
        kind.name: names[class_of(kind, row[0])],
        **each,
        f"{kind.name}.entropy": _share(float(entropy(given)[0, 0])),
    }


def _box(corners: NDArray[np.float64], dims: int) -> str:
    low, high = tuple(corners[:dims]), tuple(corners[dims:])
    return f"{_words(in_array_order(low))} {_words(in_array_order(high))}"


def _words(place: tuple[float, ...]) -> str:
    return " ".join(f"{float(value):.1f}" for value in place)


def _share(value: float) -> str:
    return f"{value:.4f}"


def _number(value: float) -> str:
    return f"{value:.6g}"
