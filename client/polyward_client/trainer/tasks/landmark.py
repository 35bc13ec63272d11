"""Named places in an image, found as the summits of heat maps.

Places in a manifest are pixels of the image as stored, 0 for the centre of the first. In 2D `x y` is column and row,
so x is the last axis of the array. In 3D `x y z` are the axes of the volume in right-anterior-superior order as it is
read, so x is the first axis. Inside, everything is in the order of the array's axes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.form import shaped_points
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Landmark

UNSEEN = "-"
ON_BELL = 10.0  # added to a pixel's weight of 1 at the bell's summit: the loss map of Wang et al., arXiv 1904.07399

Place = tuple[float, ...]


class LandmarkKind(TaskKind):
    """A heat map for each point, fitted to a Gaussian bell; its pixels are heights, 1 at the summit."""

    moves = "points"
    unsure = 0.0
    may_be_void = True

    def __init__(self, name: str, task: Landmark) -> None:
        super().__init__(name, task)
        self.points, self.sigma, self.tolerance = task.points, task.sigma, task.tolerance
        self.channels = len(task.points)

    def label(self, cells: Sequence[Cell | None]) -> tuple[Place, ...] | None:
        """A place for each point in array order; NaN for one unseen."""
        cell = cells[0]
        if cell is None:
            return None
        parts = [part.strip() for part in cell.text.split(";")]
        if len(parts) != len(self.points):
            raise cell.error(f"{len(self.points)} places, for {', '.join(self.points)}", f"{len(parts)} places")
        unseen = (math.nan,) * len(cell.size)
        return tuple(unseen if part == UNSEEN else self._place(cell, part) for part in parts)

    def _place(self, cell: Cell, part: str) -> Place:
        words = part.split()
        if len(words) != len(cell.size):
            raise cell.error(f"{' '.join('xyz'[: len(cell.size)])} for each place, or {UNSEEN}", repr(part))
        place = in_array_order(numbers(cell, words))
        if not all(-0.5 <= value <= side - 0.5 for value, side in zip(place, cell.size, strict=True)):
            raise cell.error(f"places inside the image, {extent(cell.size)}", repr(part))
        return place

    def target(self, label: Sequence[Place], picture: Picture, image: Image) -> NDArray[np.float32]:
        """[points, dims]."""
        return shaped_points(np.asarray(label, float), picture, image, where=self.name).astype(np.float32)

    def blank(self, image: Image) -> NDArray[np.float32]:
        return np.full((self.channels, len(image.size)), np.nan, np.float32)

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        """log(1 + e), where e is the weighted squared error as a share of that of an empty map; mean over seen points.

        Most of a map is background: in a plain mean over pixels a bell is drowned. Pixels under it weigh up to 11 times
        as much, and as a share the error does not depend on the image's size. A fresh map, whose background is wrong
        everywhere, is some hundred times worse than an empty one; the logarithm keeps its gradient from burying those
        of the other tasks, and changes nothing near 0. A case without a seen point has loss 0.
        """
        seen = visible(target, output.shape[2:])
        bell = bells(target, output.shape[2:], self.sigma)
        weight = 1 + ON_BELL * bell
        error = (weight * (output - bell).square()).flatten(2).sum(2)
        empty = (weight * bell.square()).flatten(2).sum(2)
        each = torch.where(seen, (error / torch.where(seen, empty, 1)).log1p(), 0)
        return each.sum(1) / seen.sum(1).clamp(min=1)

    def informs(self, target: Tensor) -> Tensor:
        """Cases with a point seen; one that augmentation or a window moved out of the image is NaN by then."""
        return (~target.isnan()).all(2).any(1)

    @property
    def evidence_width(self) -> int:
        return self.channels

    def evidence(self, output: Tensor) -> Tensor:
        return output.clamp(0, 1)

    def answers(self, output: Tensor, target: Tensor) -> Tensor:
        """The radial error of each point in pixels of the study's form [batch, points]; NaN where it is unseen."""
        away = (summits(output, self.sigma) - target).square().sum(2).sqrt()
        return torch.where(visible(target, output.shape[2:]), away, torch.nan)

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        """Means over the points seen; counted are the cases with one."""
        away = answers[answers.isfinite()].double()
        if len(away):
            cases = int(answers.isfinite().any(1).sum())
            yield "radial_error", float(away.mean()), cases
            yield "found", float((away <= self.tolerance).double().mean()), cases


def bells(places: Tensor, size: Sequence[int], sigma: float | Tensor) -> Tensor:
    """Gaussians of height 1 around places [..., dims] -> [..., *size]; 0 everywhere for a place of NaN.

    `sigma` is one standard deviation, or [..., dims] of them.
    """
    dims = len(size)
    whole, widths = torch.ones((), device=places.device), torch.as_tensor(sigma, device=places.device).expand_as(places)
    for axis, side in enumerate(size):
        apart = torch.arange(side, device=places.device) - places[..., axis, None]
        profile = (-apart.square() / (2 * widths[..., axis, None].square())).exp().nan_to_num(0.0)
        whole = whole * profile.reshape(*places.shape[:-1], *(side if axis == k else 1 for k in range(dims)))
    return whole


def summits(maps: Tensor, sigma: float) -> Tensor:
    """Places of the summits of maps [batch, points, *spatial], between pixels [batch, points, dims].

    A local soft-argmax: the mean of the places within 2 sigma of the highest pixel, along each axis, weighted by the
    square of their height; the highest alone where nothing is above 0. The square narrows the bell, so that the
    window's edge hardly cuts it. At the image's border the window shrinks on both sides, or it would draw inwards.
    """
    size = maps.shape[2:]
    highest = torch.stack(torch.unravel_index(maps.flatten(2).argmax(2), size), 2)  # [batch, points, dims]
    weight = maps.clamp(min=0).square()
    for axis, side in enumerate(size):
        middle = highest[..., axis, None]
        reach = torch.minimum(middle, side - 1 - middle).clamp(max=max(1, math.floor(2 * sigma)))
        near = ((torch.arange(side, device=maps.device) - middle).abs() <= reach).to(maps.dtype)
        weight = weight * near.reshape(*near.shape[:2], *(side if axis == k else 1 for k in range(len(size))))
    total = weight.flatten(2).sum(2)
    places = []
    for axis, side in enumerate(size):
        profile = weight.movedim(axis + 2, 2).flatten(3).sum(3)
        mean = (profile * torch.arange(side, device=maps.device)).sum(2) / total
        places.append(torch.where(total > 0, mean, highest[..., axis].to(maps.dtype)))
    return torch.stack(places, 2)


def visible(places: Tensor, size: Sequence[int]) -> Tensor:
    """Whether places [..., dims] lie within an image of this size [...]; NaN does not."""
    sides = torch.tensor(list(size), device=places.device)
    return ((places >= -0.5) & (places <= sides - 0.5)).all(-1)


def numbers(cell: Cell, words: Sequence[str]) -> tuple[float, ...]:
    """The words of a cell as numbers. Raises `CellError`."""
    return tuple(dataclasses.replace(cell, text=word).number() for word in words)


def in_array_order(place: tuple[float, ...]) -> tuple[float, ...]:
    """x y -> row and column; x y z stay, for a volume's first axis is x."""
    return place[::-1] if len(place) == 2 else place


def extent(size: tuple[int, ...]) -> str:
    """An array's size as a reader of `x y` expects it."""
    return " x ".join(str(side) for side in in_array_order(size))
