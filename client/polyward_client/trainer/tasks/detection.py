"""Boxes around objects, found as centres and sizes: CenterNet (Zhou et al., arXiv 1904.07850) at full resolution.

A manifest's `x0 y0 x1 y1` are pixel borders of the image as stored: all of it is `0 0 width height`, its first pixel
`0 0 1 1`. In 2D x is the column, the last axis of the array; in 3D `x0 y0 z0 x1 y1 z1` follow the axes of the volume in
right-anterior-superior order as it is read. Inside, corners are in the order of the array's axes and pixel centres lie
at whole numbers, so the first pixel reaches from -0.5 to 0.5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.form import shaped_points
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_client.trainer.tasks.landmark import bells, extent, in_array_order, numbers, visible
from polyward_shared.study import Image
from polyward_shared.tasks import Detection

NONE = "none"
PRIOR = math.log(99)  # a fresh network sees a centre in 1 % of the pixels: section 4.1 of arXiv 1708.02002
ALPHA, BETA = 2, 4  # of equation 1
BELL = 6  # standard deviations of a centre's bell in a box's side
LEAST = 0.5  # the least standard deviation, in pixels
FALSE_POSITIVES = (0.125, 0.25, 0.5, 1, 2, 4, 8)  # per image, as in LUNA16 (Setio et al., arXiv 1612.08012)

Box = tuple[float, ...]  # low corner, high corner, class


class DetectionKind(TaskKind):
    """Heat maps of the classes' centres, then maps of the log of the sides."""

    moves = "boxes"
    unsure = 0.0

    def __init__(self, name: str, task: Detection, dims: int = 2) -> None:
        super().__init__(name, task)
        self.names, self.most, self.overlap, self.dims = task.classes, task.most, task.overlap, dims
        self.channels = len(task.classes) + dims

    def label(self, cells: Sequence[Cell | None]) -> tuple[Box, ...] | None:
        """Boxes in array-index coordinates of the stored image; no box for `none`."""
        cell = cells[0]
        if cell is None:
            return None
        if cell.text.strip() == NONE:
            return ()
        parts = cell.text.split(";")
        if len(parts) > self.most:
            raise cell.error(f"at most {self.most} boxes, the task's `most`", f"{len(parts)} boxes")
        return tuple(self._box(cell, part.strip()) for part in parts)

    def _box(self, cell: Cell, part: str) -> Box:
        dims = len(cell.size)
        axes = "xyz"[:dims]
        form = " ".join(f"{axis}{end}" for end in (0, 1) for axis in axes)
        words = part.split(maxsplit=2 * dims)
        alone = len(self.names) == 1 and len(words) == 2 * dims
        if not alone and len(words) != 2 * dims + 1:
            raise cell.error(f"{form} and a class for each box, or {NONE}", repr(part))
        ends = numbers(cell, words[: 2 * dims])
        low, high = in_array_order(ends[:dims]), in_array_order(ends[dims:])
        if not all(0 <= a < b <= side for a, b, side in zip(low, high, cell.size, strict=True)):
            rule = " and ".join(f"{axis}0 < {axis}1" for axis in axes)
            raise cell.error(f"{rule}, inside the image of {extent(cell.size)}", repr(part))
        number = 0 if alone else dataclasses.replace(cell, text=words[-1]).choice(self.names)
        return *(value - 0.5 for value in low + high), float(number)

    def target(self, label: Sequence[Box], picture: Picture, image: Image) -> NDArray[np.float32]:
        """[most, 2 dims + 1]: low corner, high corner, class; rows of NaN after the last box."""
        target = self.blank(image)
        if label:
            boxes = np.asarray(label, float)
            corners = shaped_points(boxes[:, :-1].reshape(-1, len(image.size)), picture, image, where=self.name)
            target[: len(boxes), :-1], target[: len(boxes), -1] = corners.reshape(len(boxes), -1), boxes[:, -1]
        return target

    def blank(self, image: Image) -> NDArray[np.float32]:
        return np.full((self.most, 2 * len(image.size) + 1), np.nan, np.float32)

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        """The focal loss of centres (equation 1) plus the mean L1 of the log of the sides at centres.

        The logarithm makes an error of a tenth cost the same for a nodule and for a lung, where the paper weighs pixels
        with 0.1. Both are divided by the number of boxes, at least 1.
        """
        heat, sides, boxes = drawn(target, output.shape[2:], len(self.names))
        logits, centre = self._logits(output), heat == 1
        hit = (1 - logits.sigmoid()) ** ALPHA * F.softplus(-logits)
        miss = (1 - heat) ** BETA * logits.sigmoid() ** ALPHA * F.softplus(logits)
        apart = (output[:, len(self.names) :] - sides).abs().mean(1, keepdim=True)
        apart = torch.where(centre.any(1, keepdim=True), apart, 0)
        return (torch.where(centre, hit, miss).flatten(1).sum(1) + apart.flatten(1).sum(1)) / boxes.clamp(min=1)

    @property
    def evidence_width(self) -> int:
        return len(self.names)

    def evidence(self, output: Tensor) -> Tensor:
        return self._logits(output).sigmoid()

    def _logits(self, output: Tensor) -> Tensor:
        return output[:, : len(self.names)] - PRIOR

    def answers(self, output: Tensor, target: Tensor) -> Tensor:
        """[batch, 3 most + classes]: the found boxes' scores, classes and whether right; then true boxes by class."""
        scores, classes, found = self.found(output)
        right = matched(found, classes, target, output.shape[2:], self.overlap)
        there = present(target, output.shape[2:])
        truths = [(there & (target[..., -1] == number)).sum(1) for number in range(len(self.names))]
        return torch.cat((scores, classes, right.to(scores.dtype), torch.stack(truths, 1).to(scores.dtype)), 1)

    def found(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The `most` best boxes: scores and classes [batch, most], corners [batch, most, 2 dims], best first.

        Centres are the local maxima of the heat maps. Where they are fewer, scores are NaN.
        """
        count, size = len(self.names), output.shape[2:]
        heat = self.evidence(output)
        pool = F.max_pool2d if len(size) == 2 else F.max_pool3d
        heat = torch.where(heat == pool(heat, 3, stride=1, padding=1), heat, -1).flatten(1)
        scores, places = heat.topk(min(self.most, heat.shape[1]), dim=1)
        pixels = math.prod(size)
        classes, places = (places // pixels).to(heat.dtype), places % pixels
        middle = torch.stack(torch.unravel_index(places, size), 2)
        logs = output[:, count:].flatten(2).gather(2, places[:, None].expand(-1, len(size), -1)).movedim(1, 2)
        sides = torch.tensor(list(size), dtype=heat.dtype, device=heat.device)
        reach = torch.minimum(logs.exp(), 2 * sides) / 2
        corners = torch.cat(((middle - reach).clamp(min=-0.5), torch.minimum(middle + reach, sides - 0.5)), 2)
        scores = torch.where(scores >= 0, scores, torch.nan)
        gap = self.most - scores.shape[1]
        return F.pad(scores, (0, gap), value=math.nan), F.pad(classes, (0, gap)), F.pad(corners, (0, 0, 0, gap))

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        """Over all cases of the split; absent where no case has a box."""
        scores, classes, right = answers[:, : 3 * self.most].double().reshape(-1, 3, self.most).movedim(1, 0)
        there = answers[:, 3 * self.most :].sum(0)
        if not there.any():
            return
        known = scores.isfinite()
        areas = []
        for number in there.nonzero()[:, 0].tolist():
            among = known & (classes == number)
            areas.append(average_precision(scores[among], right[among], int(there[number])))
        yield "average_precision", sum(areas) / len(areas), len(answers)
        yield "froc", froc(scores[known], right[known], int(there.sum()), len(answers)), len(answers)


def drawn(target: Tensor, size: Sequence[int], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [batch, most, 2 dims + 1] -> heat [batch, classes, *size], log sides [batch, dims, *size], boxes [batch].

    Heat is 1 at the pixel nearest to a centre and falls as a bell whose width along each axis follows the box's side;
    the largest of a class counts. Sides are in pixels, at least 1, and stand at centres; elsewhere they are 0. The
    boxes are drawn one after another: memory does not grow with their number, and nothing is scattered, which a GPU
    does in no fixed order.
    """
    batch, dims = len(target), len(size)
    there = present(target, size)
    heat = target.new_zeros(batch, classes, *size)
    sides = target.new_zeros(batch, dims, *size)
    column = (batch, -1, *[1] * dims)
    numbers = torch.arange(classes, device=target.device).reshape(1, -1, *[1] * dims)
    for row in there.any(0).nonzero()[:, 0].tolist():
        box = torch.where(there[:, row, None], target[:, row], torch.nan)
        low, high = box[:, :dims], box[:, dims : 2 * dims]
        centre, side = ((low + high) / 2).round(), (high - low).clamp(min=1)
        scale = (side / BELL).clamp(min=LEAST)
        bell = bells(centre, size, scale)[:, None]
        heat = torch.maximum(heat, torch.where(box[:, -1].reshape(column) == numbers, bell, 0))
        sides = torch.where(bell == 1, side.log().reshape(column), sides)
    return heat, sides, there.sum(1)


def present(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Whether the pixel nearest to the centre of a box [..., 2 dims + 1] lies within the image [...]; NaN does not."""
    dims = len(size)
    return visible(((boxes[..., :dims] + boxes[..., dims : 2 * dims]) / 2).round(), size)


def matched(found: Tensor, classes: Tensor, target: Tensor, size: Sequence[int], overlap: float) -> Tensor:
    """Whether each found box [batch, found, 2 dims], best first, is right [batch, found].

    In order of score each takes the true box of its class that it overlaps most, of those not yet taken, if the
    intersection over union is at least `overlap`.
    """
    truth = target[..., :-1]
    share = intersection_over_union(found[:, :, None], truth[:, None])
    fits = present(target, size)[:, None] & (classes[..., None] == target[:, None, :, -1]) & (share >= overlap)
    share = torch.where(fits, share, 0)
    free = torch.ones_like(share[:, 0])
    right = []
    places = torch.arange(share.shape[2], device=share.device)
    for row in share.unbind(1):
        best, place = (row * free).max(1)
        right.append(best > 0)
        free = torch.where((best > 0)[:, None] & (places == place[:, None]), 0, free)
    return torch.stack(right, 1)


def intersection_over_union(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes [..., 2 dims], low corner before high corner."""
    dims = a.shape[-1] // 2
    shared = torch.minimum(a[..., dims:], b[..., dims:]) - torch.maximum(a[..., :dims], b[..., :dims])
    both = shared.clamp(min=0).prod(-1)
    return both / ((a[..., dims:] - a[..., :dims]).prod(-1) + (b[..., dims:] - b[..., :dims]).prod(-1) - both)


def average_precision(scores: Tensor, right: Tensor, truths: int) -> float:
    """Area below precision over recall, precision made to fall (all points; Everingham et al., VOC since 2010)."""
    hits = right[scores.argsort(descending=True, stable=True)]
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    falling = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    return float((falling * hits).sum() / truths)


def froc(scores: Tensor, right: Tensor, truths: int, images: int) -> float:
    """The mean over `FALSE_POSITIVES` of the sensitivity reached with at most so many false positives an image."""
    hits = right[scores.argsort(descending=True, stable=True)]
    wrong = (1 - hits).cumsum(0) / images
    reached = [float(hits[wrong <= allowed].sum()) / truths for allowed in FALSE_POSITIVES]
    return sum(reached) / len(reached)
