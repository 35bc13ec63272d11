"""Where a class was seen: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image as Raster
from torch import Tensor
from torch.nn import functional as F

from polyward_client.trainer.branches import POOLED_LEVELS
from polyward_client.trainer.form import LINEAR, unshaped
from polyward_client.trainer.grid import Grid, write_values
from polyward_client.trainer.images import Picture
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.tasks import TaskKind
from polyward_client.trainer.tasks.classes import BinaryKind, MulticlassKind, MultilabelKind
from polyward_client.trainer.tasks.ordinal import OrdinalKind
from polyward_client.trainer.volume import Values
from polyward_shared.study import Image

FEWEST_PLACES = 7  # along a side, as the last maps of the paper's networks have
STRENGTH = 0.55  # of the colours over the image, where the map is 1
SHORTEST_SIDE = 256  # of the picture that is written, in pixels: a small image is enlarged
EXPLAINED = BinaryKind | MulticlassKind | MultilabelKind | OrdinalKind


def speaking(kind: TaskKind, output: Tensor) -> Mapping[str, Tensor]:
    """By class: the scores [] of what a task says of one image, from its output [channels].

    The answered class's logit; of class 0 of two the logit with the other sign; of every finding that is said to be
    there, or of the likeliest; of an ordinal task the sum of its logits, which speaks for a high class.
    """
    match kind:
        case BinaryKind():
            positive = bool(output[0] > 0)
            return {str(int(positive)): output[0] if positive else -output[0]}
        case MulticlassKind():
            best = int(output[: kind.channels].argmax())
            return {kind.names[best]: output[best]}
        case MultilabelKind():
            there = (output > 0).nonzero()[:, 0].tolist() or [int(output.argmax())]
            return {kind.names[place]: output[place] for place in there}
        case OrdinalKind():
            return {f"above_{kind.names[0]}": output[: kind.channels].sum()}
    return {}


@torch.enable_grad()
def attended(model: MultiTaskModel, task: str, image: Tensor, side: Tensor | None) -> dict[str, Values]:
    """By class: the map of one image [1, channels, *spatial], float32 [*spatial], 0 to 1; zeros where nothing spoke.

    A is the deepest level of the pyramid that the branch pools and that has at least `FEWEST_PLACES` along its sides.
    Gradients go through everything between it and the score, the encoder's deeper levels too.
    """
    pyramid = model.pyramid(image.clone().requires_grad_())
    pooled = pyramid[-POOLED_LEVELS:]
    features = next((level for level in reversed(pooled) if min(level.shape[2:]) >= FEWEST_PLACES), pooled[0])
    output = model.answer(pyramid, tuple(image.shape[2:]), (task,), side=side).final[task][0]
    found = {}
    for name, score in speaking(model.kinds[task], output).items():
        (gradient,) = torch.autograd.grad(score, features, retain_graph=True)
        weights = gradient.flatten(2).mean(2)  # alpha_k, equation 1
        spoken = F.relu(torch.einsum("bk,bk...->b...", weights, features.detach()))  # equation 2
        large = F.interpolate(spoken[:, None], size=image.shape[2:], mode=LINEAR[image.ndim - 2], align_corners=False)
        top = large.max()
        found[name] = (large / top if top > 0 else large)[0, 0].detach().cpu().numpy()
    return found


def write_overlay(stem: Path, attention: Values, picture: Picture, image: Image, grid: Grid, where: str) -> Path:
    """The map [*spatial], in the study's form, over the image as `<stem>.png`; a volume's map as NIfTI beside it.

    Of a volume the slice along the last axis, as it is read, is shown in which the map is strongest.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    shown = unshaped(attention[None], picture, image, where=where)[0].clip(0, 1)
    values = picture.values
    if shown.ndim == 3:
        write_values(stem, shown[None], grid)
        best = int(shown.sum((0, 1)).argmax())
        # rows from the patient's front to back and columns from right to left, as radiologists look at it
        shown, values = (np.moveaxis(each[..., best], -2, -1)[..., ::-1, ::-1] for each in (shown, values))
    path = stem.with_name(f"{stem.name}.png")
    blended(values, shown).save(path)
    return path


def blended(values: Values, shown: NDArray[np.float32]) -> Raster.Image:
    """An image [channels, rows, columns] in grey, or in its own three colours, under the map's colours."""
    low, high = np.quantile(values, (0.005, 0.995))
    grey = ((values - low) / (high - low if high > low else 1)).clip(0, 1)
    base = np.moveaxis(grey, 0, -1) if len(values) == 3 else np.repeat(grey[:1].transpose(1, 2, 0), 3, axis=2)
    colours = colormaps["inferno"](shown)[..., :3]
    share = STRENGTH * shown[..., None]
    mixed = Raster.fromarray(np.asarray(255 * ((1 - share) * base + share * colours), np.uint8), "RGB")
    factor = -(-SHORTEST_SIDE // min(mixed.size))
    return (
        mixed.resize((mixed.width * factor, mixed.height * factor), Raster.Resampling.NEAREST) if factor > 1 else mixed
    )
