"""A batch -> the same batch, each image and all that is tied to its places varied by the study's preset.

A preset is data, one for each modality. Geometry is one affine matrix for each image, which moves the image, its masks,
maps, points and boxes alike; intensity changes the image alone. All parameters are drawn with numpy, so they do not
depend on the device.

A mirror from left to right turns a left lung into a right one: a preset that mirrors is unsound for tasks that tell
left from right. `none`, `radiograph` and `ct` do not mirror.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from polyward_client.trainer.affine import Matrices, mirrored, moved_boxes, moved_points, on, warped
from polyward_shared.training import Augmentation

Direction = Literal["left_right", "up_down"]
# Where the directions lie: 2D arrays are [rows, columns], 3D arrays [right to left, back to front, foot to head].
AXES: dict[int, dict[Direction, int]] = {2: {"left_right": 1, "up_down": 0}, 3: {"left_right": 0, "up_down": 2}}
SHARE_BLURRED, SHARE_NOISY = 0.3, 0.3  # of the images; the others stay as sharp and clean as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How far images of one modality may vary. Defaults leave the image alone."""

    mirror: tuple[Direction, ...] = ()  # each for about half of the images
    quarter_turns: bool = False  # of rows and columns; half turns only where their numbers differ
    rotation: float = 0.0  # degrees to either side, in the plane of the first two axes (3D: the axial plane)
    zoom: tuple[float, float] = (1.0, 1.0)
    translation: float = 0.0  # share of each side, to either side
    blur: float = 0.0  # largest standard deviation in pixels
    gamma: tuple[float, float] = (1.0, 1.0)  # of the intensity between the image's least and greatest
    scale: float = 0.0  # intensity times 1 - scale .. 1 + scale
    shift: float = 0.0  # plus or minus, in units of an image that runs from 0 to 1
    jitter: float = 0.0  # each channel of a colour image times 1 - jitter .. 1 + jitter
    noise: float = 0.0  # largest standard deviation, as a share of the image's range

    @property
    def warps(self) -> bool:
        """Whether pixels may come to lie between pixels, or rows become columns."""
        return self.quarter_turns or self.rotation > 0 or self.zoom != (1.0, 1.0) or self.translation > 0


# fmt: off
PRESETS: dict[Augmentation, Preset] = {
    "none": Preset(),
    # The modality is unknown, so only what a reader would hardly notice, and the mirror.
    "light": Preset(mirror=("left_right",), scale=0.1, shift=0.05),
    # Heart and liver have their sides; exposure varies.
    "radiograph": Preset(
        rotation=7, zoom=(0.9, 1.1), translation=0.05,
        blur=0.7, gamma=(0.8, 1.25), scale=0.1, shift=0.05, noise=0.02,
    ),
    # Calibrated units: hardly any change of intensity, but noise by dose and blur by kernel.
    "ct": Preset(
        rotation=10, zoom=(0.9, 1.1), translation=0.05,
        blur=0.7, scale=0.05, shift=0.02, noise=0.03,
    ),
    # Intensity has no unit and drifts with coil and sequence. Heads, breasts and pelves are nearly symmetric.
    "mri": Preset(
        mirror=("left_right",), rotation=10, zoom=(0.9, 1.1), translation=0.05,
        blur=0.7, gamma=(0.7, 1.4), scale=0.2, shift=0.05, noise=0.03,
    ),
    # The probe is above, so no half turns; gain and speckle vary.
    "ultrasound": Preset(
        mirror=("left_right",), rotation=10, zoom=(0.9, 1.1), translation=0.05,
        blur=0.7, gamma=(0.7, 1.4), scale=0.2, shift=0.05, noise=0.06,
    ),
    # A mirrored left eye is a right eye.
    "fundus": Preset(
        mirror=("left_right",), rotation=15, zoom=(0.95, 1.1), translation=0.03,
        blur=0.7, gamma=(0.8, 1.25), scale=0.1, shift=0.03, jitter=0.1, noise=0.01,
    ),
    # Skin and endoscopy: no up and no left, light of any colour.
    "photo": Preset(
        mirror=("left_right", "up_down"), quarter_turns=True, rotation=20, zoom=(0.8, 1.2),
        translation=0.05, blur=0.7, gamma=(0.8, 1.25), scale=0.1, shift=0.03, jitter=0.1, noise=0.02,
    ),
    # Tiles have no orientation, but their scale is known; stains differ between laboratories.
    "pathology": Preset(
        mirror=("left_right", "up_down"), quarter_turns=True, zoom=(0.95, 1.05),
        translation=0.05, blur=0.7, gamma=(0.9, 1.1), scale=0.1, shift=0.03, jitter=0.15, noise=0.01,
    ),
}
# fmt: on


@dataclass(frozen=True, slots=True)
class Moved:
    """What follows its image.

    `labels`: whole numbers [batch, *spatial], nearest neighbour. `image`: float [batch, channels, *spatial], linear.
    `points`: [batch, points, dims], places in the array's axes, pixel centres at whole numbers; NaN is absent.
    `boxes`: [batch, boxes, 2 dims + 1], low corner, high corner and class; NaN is absent. `fill` is the value of maps
    where the moved image shows what lay outside.
    """

    kind: Literal["labels", "image", "points", "boxes"]
    values: Tensor
    fill: float = 0.0


def augmented(
    images: Tensor, moved: Mapping[str, Moved], preset: Augmentation, generator: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Images [batch, channels, *spatial] and what follows them, varied; on the same device, the given tensors stay.

    Points that leave the image become NaN. Boxes become the axis-parallel hull of their moved corners, are cut at the
    image's border, and become NaN where less than a quarter of that hull's area is left.
    """
    return varied(images, moved, PRESETS[preset], generator)


def varied(
    images: Tensor, moved: Mapping[str, Moved], rules: Preset, generator: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """As `augmented`, by rules of one's own."""
    matrices = drawn_matrices(rules, len(images), tuple(images.shape[2:]), generator)
    apply = warped if rules.warps else mirrored  # a mirror alone is exact and fast
    after = {}
    for name, each in moved.items():
        match each.kind:
            case "labels":
                after[name] = apply(each.values[:, None], matrices, nearest=True, fill=each.fill)[:, 0]
            case "image":
                after[name] = apply(each.values, matrices, fill=each.fill)
            case "points":
                after[name] = moved_points(each.values, matrices, tuple(images.shape[2:]))
            case "boxes":
                after[name] = moved_boxes(each.values, matrices, tuple(images.shape[2:]))
    return _varied_intensity(apply(images, matrices), rules, generator), after


def drawn_matrices(rules: Preset, count: int, size: tuple[int, ...], generator: np.random.Generator) -> Matrices:
    """[count, dims, dims + 1]: where each pixel goes, in pixels from the image's centre: p' = A p + t."""
    dims = len(size)
    linear, offset = np.tile(np.eye(dims), (count, 1, 1)), np.zeros((count, dims))
    for direction in rules.mirror:
        axis = AXES[dims][direction]
        linear[generator.random(count) < 0.5, axis, axis] = -1
    angle = np.zeros(count)
    if rules.quarter_turns:
        turns = generator.integers(0, 4, count)
        angle += math.pi / 2 * (turns if size[0] == size[1] else turns // 2 * 2)
    if rules.rotation:
        angle += np.deg2rad(generator.uniform(-rules.rotation, rules.rotation, count))
    if rules.zoom != (1.0, 1.0):
        linear *= generator.uniform(*rules.zoom, count)[:, None, None]
    if rules.translation:
        offset = generator.uniform(-rules.translation, rules.translation, (count, dims)) * size
    turn = np.tile(np.eye(dims), (count, 1, 1))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 1, 0] = np.sin(angle)
    turn[:, 0, 1] = -turn[:, 1, 0]
    return np.concatenate((turn @ linear, offset[:, :, None]), 2)


def _varied_intensity(images: Tensor, rules: Preset, generator: np.random.Generator) -> Tensor:
    """Blur, gamma, scale and shift, colour and noise, in this order. What is 0 is padding and stays 0."""
    count, column = len(images), (-1, *[1] * (images.ndim - 1))
    inside = images != 0
    if rules.blur:
        spread = _for_some(SHARE_BLURRED, rules.blur, count, generator)
        images = torch.where(inside, _blurred(images, spread, math.ceil(3 * rules.blur)), images)
    if rules.gamma != (1.0, 1.0):
        exponent = on(_uniform(*rules.gamma, count, generator), images.device).reshape(column)
        low, span = _range(images)
        images = torch.where(inside, low + span * ((images - low) / span) ** exponent, images)
    if rules.scale or rules.shift:
        scale = _uniform(1 - rules.scale, 1 + rules.scale, count, generator)
        shift = _uniform(-rules.shift, rules.shift, count, generator)
        factors = on(np.stack((scale, shift)), images.device).reshape(2, *column)
        images = images * factors[0] + factors[1] * inside
    if rules.jitter and images.shape[1] == 3:
        tint = on(_uniform(1 - rules.jitter, 1 + rules.jitter, 3 * count, generator), images.device)
        images = images * tint.reshape(count, 3, *column[2:])
    if rules.noise:
        spread = _for_some(SHARE_NOISY, rules.noise, count, generator)
        images = images + inside * _noise(images, spread, generator)
    return images


def _blurred(images: Tensor, spread: NDArray[np.float32], radius: int) -> Tensor:
    """Gaussian of each image's own standard deviation in pixels, along one axis after the other; 0 leaves it sharp."""
    chosen = np.flatnonzero(spread)
    if not len(chosen):
        return images
    bells = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * spread[chosen, None].astype(float) ** 2 + 1e-12))
    weights = on((bells / bells.sum(1, keepdims=True)).T.astype(np.float32), images.device)  # [taps, chosen]
    places = on(chosen, images.device)
    soft = images[places]
    for axis in range(2, images.ndim):
        ends = [0, 0] * (images.ndim - 1 - axis) + [radius, radius] + [0, 0] * (axis - 2)
        padded, blurred = F.pad(soft, ends, mode="replicate"), torch.zeros_like(soft)
        for tap, weight in enumerate(weights):
            part = padded.narrow(axis, tap, images.shape[axis])
            blurred.addcmul_(part, weight.reshape(-1, *[1] * (images.ndim - 1)))
        soft = blurred
    return images.index_copy(0, places, soft)


def _noise(images: Tensor, spread: NDArray[np.float32], generator: np.random.Generator) -> Tensor:
    """Gaussian, as large as each image's share of its range says; drawn for the images that have any."""
    chosen = np.flatnonzero(spread)
    grain = generator.standard_normal((len(chosen), *images.shape[1:]), np.float32)
    grain *= spread[chosen].reshape(-1, *[1] * (images.ndim - 1))
    places = on(chosen, images.device)
    return torch.zeros_like(images).index_copy(0, places, on(grain, images.device) * _range(images)[1][places])


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's least value and the distance to its greatest, [batch, 1, ...]; 1 where that is 0."""
    axes = tuple(range(1, images.ndim))
    low = images.amin(axes, keepdim=True)
    span = images.amax(axes, keepdim=True) - low
    return low, torch.where(span > 0, span, 1)


def _for_some(share: float, most: float, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Values from 0 to `most` for a share of the images, 0 for the others."""
    chosen = generator.random(count) < share
    return np.where(chosen, _uniform(0, most, count, generator), np.float32(0))


def _uniform(low: float, high: float, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    return generator.uniform(low, high, count).astype(np.float32)
