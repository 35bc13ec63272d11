"""A tubular structure, such as a vessel, and the line along its middle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, label
from skimage.morphology import skeletonize
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer import images
from polyward_client.trainer.cells import Cell
from polyward_client.trainer.form import shaped_mask
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Centreline

FIGURES = ("cldice", "dice", "line_agreement")
TOPOLOGY = 0.5  # share of clDice beside Dice, the largest alpha that the paper uses
EROSIONS = 5  # of the soft skeleton: enough for tubes about 10 pixels wide
SMOOTH = 1.0  # lets a correct empty answer to an empty mask reach loss 0
FAR = 0.1  # weight of places beyond reach; on the centreline it is 1
KINK = 0.1  # of the smooth L1: errors above a tenth of the reach count in proportion

Mask = NDArray[np.bool_]


class CentrelineKind(TaskKind):
    """Two maps: the tube's logit, and the nearness of the centreline, 1 on it and 0 at `reach` pixels and beyond.

    Nearness is 1 - min(distance / reach, 1). Unlike the distance, it may be filled with zeros where augmentation moves
    the image's border inwards.
    """

    channels = 2
    moves = "image"
    evidence_width = 2

    def __init__(self, name: str, task: Centreline) -> None:
        super().__init__(name, task)
        self.task = task

    def label(self, cells: Sequence[Cell | None]) -> Path | None:
        return None if cells[0] is None else cells[0].file()

    def target(self, label: Path, picture: Picture, image: Image) -> NDArray[np.float32]:
        """The mask and the nearness of its centreline, float32 [2, *size]."""
        mask = shaped_mask(images.read_mask(label, len(image.size), classes=1), picture, image, where=label.name)
        return np.stack((mask.astype(np.float32), nearness(skeleton(mask > 0), self.task.reach)))

    def blank(self, image: Image) -> NDArray[np.float32]:
        return np.zeros((2, *image.size), np.float32)

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        return tube_losses(output[:, 0], _tube(target).float()) + nearness_losses(output[:, 1], target[:, 1])

    def evidence(self, output: Tensor) -> Tensor:
        tube = output[:, 0].sigmoid()
        return torch.stack((1 - tube, tube), 1)

    def truth(self, target: Tensor) -> Tensor:
        tube = _tube(target)
        return torch.stack((~tube, tube), 1).float()

    def answers(self, output: Tensor, target: Tensor) -> Tensor:
        """clDice, Dice and the agreement of centrelines of each case [batch, 3]; NaN where the mask is empty."""
        called, there = (output[:, 0] > 0).cpu().numpy(), _tube(target).cpu().numpy()
        rows = [line_scores(a, b, self.task.tolerance) for a, b in zip(called, there, strict=True)]
        return torch.tensor(rows, device=output.device)

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        """Means over the cases with a tube."""
        for place, name in enumerate(FIGURES):
            defined = answers[:, place].isfinite()
            if defined.any():
                yield name, float(answers[defined, place].double().mean()), int(defined.sum())


def skeleton(mask: Mask) -> Mask:
    """The centreline of a mask [*spatial], by scikit-image: Zhang (1984) in 2D, Lee (1994) in 3D.

    Lee's thinning in scikit-image loses straight tubes of an even width, so parts without a centreline are thinned once
    more with one layer less; what is too thin for that is its own centreline.
    """
    line = _thinned(mask)
    parts, count = label(mask, np.ones((3,) * mask.ndim))
    lost = mask & ~_touched(parts, count, line)
    if lost.any():
        line = line | _thinned(binary_erosion(lost, np.ones((2,) * mask.ndim)))
        line = line | (lost & ~_touched(parts, count, line))
    return line


def nearness(line: Mask, reach: float) -> NDArray[np.float32]:
    """1 - min(distance / reach, 1), with the Euclidean distance in pixels to the line; 0 where there is no line."""
    if not line.any():
        return np.zeros(line.shape, np.float32)
    return np.asarray(1 - np.minimum(distance_transform_edt(~line) / reach, 1), np.float32)


def tube_losses(output: Tensor, tube: Tensor) -> Tensor:
    """Binary cross-entropy and (1 - alpha) (1 - Dice) + alpha (1 - clDice), soft, for each case [batch].

    Logits and masks [batch, *spatial]. Shit et al., CVPR 2021, arXiv 2003.07311: the loss L_c and its algorithms 1, 2.
    """
    chances = output.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(output, tube, reduction="none").flatten(1).mean(1)
    dice = (2 * _sum(chances * tube) + SMOOTH) / (_sum(chances) + _sum(tube) + SMOOTH)
    return entropy + (1 - TOPOLOGY) * (1 - dice) + TOPOLOGY * (1 - soft_cldice(chances, tube))


def soft_cldice(chances: Tensor, tube: Tensor) -> Tensor:
    """The harmonic mean of topology precision and sensitivity, soft, for each case [batch] (their equations 1, 2)."""
    called, there = soft_skeleton(chances), soft_skeleton(tube)
    precision = (_sum(called * tube) + SMOOTH) / (_sum(called) + SMOOTH)
    sensitivity = (_sum(there * chances) + SMOOTH) / (_sum(there) + SMOOTH)
    return 2 * precision * sensitivity / (precision + sensitivity)


def soft_skeleton(chances: Tensor) -> Tensor:
    """What opening takes away after 0, 1, ... erosions of `chances` [batch, *spatial] (algorithm 1 of the paper).

    Erosion takes the least of a place and its neighbours along the axes, as in the authors' code; dilation the greatest
    of the whole 3-box. Both are written with shifts, because pooling has no deterministic gradient on a GPU.
    """
    line = torch.zeros_like(chances)
    for _ in range(EROSIONS + 1):
        smaller = _eroded(chances)
        line = line + (1 - line) * F.relu(chances - _dilated(smaller))
        chances = smaller
    return line


def nearness_losses(output: Tensor, near: Tensor) -> Tensor:
    """Smooth L1 for each case [batch], a mean that weighs a place by its nearness. Maps [batch, *spatial]."""
    weight = FAR + (1 - FAR) * near
    return _sum(weight * F.smooth_l1_loss(output, near, reduction="none", beta=KINK)) / _sum(weight)


def line_scores(called: Mask, there: Mask, tolerance: float) -> tuple[float, float, float]:
    """clDice, Dice and line agreement of two masks [*spatial]; NaN if the second is empty, 0 if only the first is.

    clDice is the harmonic mean of |S(A) and B| / |S(A)| and |S(B) and A| / |S(B)|, with S the skeleton. The agreement
    is the share of both skeletons' places that lie within `tolerance` pixels of the other skeleton.
    """
    if not there.any():
        return math.nan, math.nan, math.nan
    if not called.any():
        return 0.0, 0.0, 0.0
    a, b = skeleton(called), skeleton(there)
    precision, sensitivity = float(there[a].mean()), float(called[b].mean())
    cldice = 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0
    dice = 2 * (called & there).sum() / (called.sum() + there.sum())
    agreed = (distance_transform_edt(~b)[a] <= tolerance).sum() + (distance_transform_edt(~a)[b] <= tolerance).sum()
    return cldice, float(dice), float(agreed / (a.sum() + b.sum()))


def _tube(target: Tensor) -> Tensor:
    """The mask after augmentation; at exactly one half it counts, or a line moved by half a pixel would vanish."""
    return target[:, 0] >= 0.5


def _thinned(mask: Mask) -> Mask:
    return np.asarray(skeletonize(mask), np.bool_)  # type: ignore[no-untyped-call]


def _touched(parts: NDArray[np.int32], count: int, line: Mask) -> Mask:
    """The places of all numbered parts that hold some place of the line."""
    held = np.zeros(count + 1, np.bool_)
    held[parts[line]] = True
    return np.asarray(held[parts], np.bool_)


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


def _eroded(values: Tensor) -> Tensor:
    return torch.stack([_neighbours(values, axis).amin(0) for axis in range(1, values.ndim)]).amin(0)


def _dilated(values: Tensor) -> Tensor:
    for axis in range(1, values.ndim):
        values = _neighbours(values, axis).amax(0)
    return values


def _neighbours(values: Tensor, axis: int) -> Tensor:
    """The place before, the place itself and the place after along an axis; the border has itself beside it."""
    last = values.shape[axis] - 1
    before = torch.cat((values.narrow(axis, 0, 1), values.narrow(axis, 0, last)), axis)
    after = torch.cat((values.narrow(axis, 1, last), values.narrow(axis, last, 1)), axis)
    return torch.stack((before, values, after))
