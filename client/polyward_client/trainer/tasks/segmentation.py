"""A label for each pixel or voxel."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from monai.losses.tversky import TverskyLoss
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer import images
from polyward_client.trainer.cells import Cell
from polyward_client.trainer.form import shaped_mask
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Segmentation

SMOOTH = {"smooth": 1.0, "skip": 1e-5, "keep": 1e-5}  # 1 lets a correct empty mask reach loss 0; 1e-5 is MONAI's
GAMMA = 2.0  # of the focal loss (Lin et al., arXiv 1708.02002)
OVERLAPS = ("dice", "iou", "precision", "recall")
SURFACES = ("hd95", "assd", "surface_dice")


class SegmentationKind(TaskKind):
    """Dice and cross-entropy over the classes that this site labels.

    A site that labels only some of the classes (`labelled`) trains the marginal loss (Shi et al., MedIA 2021,
    70:101979, eq. 3): what it does not label counts as background, in the prediction as in the mask.
    """

    moves = "labels"

    def __init__(self, name: str, task: Segmentation, empty_mask: str, labelled: Collection[str] = ()) -> None:
        super().__init__(name, task)
        self.task, self.empty_mask = task, empty_mask
        self.channels = len(task.classes) + 1
        self.fill = task.ignore or 0
        self.may_be_void = task.ignore is not None
        known = labelled or task.classes
        self.known = [0, *(number for number, name in enumerate(task.classes, start=1) if name in known)]
        self.hidden = [number for number in range(self.channels) if number not in self.known]

    def label(self, cells: Sequence[Cell | None]) -> Path | None:
        return None if cells[0] is None else cells[0].file()

    def target(self, label: Path, picture: Picture, image: Image) -> NDArray[np.uint8]:
        mask = images.read_mask(label, len(image.size), classes=self.channels - 1, ignore=self.task.ignore)
        return shaped_mask(mask, picture, image, where=label.name)

    def blank(self, image: Image) -> NDArray[np.uint8]:
        return np.zeros(image.size, np.uint8)

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        output, target = self._marginal(output), self._renumbered(target)
        judged = None if self.task.ignore is None else target != self.task.ignore
        if judged is not None:
            target = torch.where(judged, target, 0)
        return mask_losses(output, target, self.empty_mask, loss=self.task.loss, judged=judged)

    def informs(self, target: Tensor) -> Tensor:
        """Cases with a place that somebody judged."""
        return super().informs(target) if self.task.ignore is None else (target != self.task.ignore).flatten(1).any(1)

    @property
    def evidence_width(self) -> int:
        return self.channels

    def evidence(self, output: Tensor) -> Tensor:
        return output.softmax(1)

    def truth(self, target: Tensor) -> Tensor | None:
        """The mask as chances; None where it hides classes, which it would call background for certain."""
        if self.hidden:
            return None
        return torch.stack([(target == number).float() for number in range(self.channels)], 1)

    def answers(self, output: Tensor, target: Tensor) -> Tensor:
        """Dice, IoU, precision, recall, and the distances of surfaces if the study asks for them [batch, 4 or 7]."""
        chosen, target = self._marginal(output).argmax(1), self._renumbered(target)
        if self.task.ignore is not None:
            chosen = torch.where(target == self.task.ignore, 0, chosen)
            target = torch.where(target == self.task.ignore, 0, target)
        scores = overlaps(chosen, target, len(self.known))
        if self.task.surface is None:
            return scores
        return torch.cat((scores, surfaces(chosen, target, len(self.known), self.task.surface)), 1)

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        """Means over the cases in which a figure is defined."""
        for place, name in enumerate(OVERLAPS + SURFACES if self.task.surface else OVERLAPS):
            defined = answers[:, place].isfinite()
            if defined.any():
                yield name, float(answers[defined, place].double().mean()), int(defined.sum())

    def _marginal(self, output: Tensor) -> Tensor:
        """Logits of the labelled classes alone; the background's takes up those of all others."""
        if not self.hidden:
            return output
        background = output[:, [0, *self.hidden]].logsumexp(1, keepdim=True)
        return torch.cat((background, output[:, self.known[1:]]), 1)

    def _renumbered(self, target: Tensor) -> Tensor:
        if not self.hidden:
            return target
        table = torch.zeros(256, dtype=target.dtype, device=target.device)
        table[self.known] = torch.arange(len(self.known), dtype=target.dtype, device=target.device)
        if self.task.ignore is not None:
            table[self.task.ignore] = self.task.ignore
        return table[target.long()]


def mask_losses(
    output: Tensor, target: Tensor, empty_mask: str, *, loss: str = "dice_ce", judged: Tensor | None = None
) -> Tensor:
    """One loss for each case [batch]: an overlap over foreground classes, and cross-entropy where the name says so.

    Logits [batch, C, *spatial], labels and `judged` [batch, *spatial]; places that nobody judged count nowhere.
    With its usual smoothing, Dice on an empty mask is near 1 even for a correct empty answer. `smooth` uses a smoothing
    of 1, `skip` leaves classes without foreground out of the mean, `keep` keeps MONAI's behaviour. The cross-entropy is
    written with the one-hot mask that Dice needs anyway; torch's own has no deterministic form for masks on a GPU.
    """
    logs = F.log_softmax(output, 1)
    classes = torch.arange(output.shape[1], device=output.device).reshape(1, -1, *[1] * (output.ndim - 2))
    onehot = (target[:, None] == classes).float()
    if judged is not None:
        onehot = onehot * judged[:, None]
    if loss == "dice_focal":
        each = -(onehot * (1 - logs.exp()) ** GAMMA * logs).sum(1).flatten(1)
    else:
        each = -(onehot * logs).sum(1).flatten(1)
    entropy = each.mean(1) if judged is None else each.sum(1) / judged.flatten(1).sum(1).clamp(min=1)
    smooth = SMOOTH[empty_mask]
    chances = logs.exp() if judged is None else logs.exp() * judged[:, None]
    overlap = (
        TverskyLoss(include_background=False, alpha=0.3, beta=0.7, reduction="none", smooth_nr=smooth, smooth_dr=smooth)
        if loss == "tversky"
        else DiceLoss(include_background=False, reduction="none", smooth_nr=smooth, smooth_dr=smooth)
    )
    missed: Tensor = overlap(chances, onehot).flatten(1)  # [batch, foreground classes]
    if empty_mask != "skip":
        return missed.mean(1) + entropy
    full = onehot[:, 1:].flatten(2).amax(2)
    return (missed * full).sum(1) / full.sum(1).clamp(min=1) + entropy


def overlaps(chosen: Tensor, target: Tensor, classes: int) -> Tensor:
    """Dice, IoU, precision and recall of each case [batch, 4], means over the foreground classes in its mask.

    2|A and B| / (|A| + |B|), |A and B| / |A or B|, |A and B| / |A|, |A and B| / |B| of labels [batch, *spatial]; NaN
    where the mask has no foreground, or precision where nothing was called.
    """
    chosen, target = chosen.flatten(1), target.flatten(1)
    rows = []
    for label in range(1, classes):
        a, b = chosen == label, target == label
        both, called, there = (a & b).sum(1), a.sum(1), b.sum(1)
        either = called + there - both
        scores = torch.stack((2 * both / (called + there), both / either, both / called, both / there), 1)
        rows.append(torch.where(there[:, None] > 0, scores, torch.nan))
    return torch.stack(rows, 2).nanmean(2)


def surfaces(chosen: Tensor, target: Tensor, classes: int, tolerance: float) -> Tensor:
    """95th percentile and mean of the distance between surfaces, and the share within `tolerance` [batch, 3], pixels.

    Means over the classes whose surfaces both exist; NaN elsewhere. Where only one of the two exists there is no
    distance, but nothing of it lies within the tolerance: the share is 0. By MONAI.
    """
    label = torch.arange(classes, device=chosen.device).reshape(1, -1, *[1] * (chosen.ndim - 1))
    a, b = ((x[:, None] == label).float() for x in (chosen, target))
    called, there = (x[:, 1:].flatten(2).amax(2) > 0 for x in (a, b))
    both, one = called & there, called ^ there
    alone = torch.tensor([math.nan, math.nan, 0.0], device=chosen.device)[:, None]  # [3, 1]
    rest = torch.where(one[:, None], alone, math.nan)
    if not both.any():
        return rest.nanmean(2)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # MONAI's, of its own old arguments and of empty classes, which are left out here
        found = torch.stack(
            (
                compute_hausdorff_distance(a, b, percentile=95),
                compute_average_surface_distance(a, b, symmetric=True),
                compute_surface_dice(a, b, [tolerance] * (classes - 1)),
            ),
            1,
        ).to(chosen.device)
    return torch.where(both[:, None], found, rest).nanmean(2).float()
