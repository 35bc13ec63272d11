"""A picture -> the study's form: channels, intensity, size. Aspect is kept, the rest is padded with zeros."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch.nn import functional as F

from polyward_client.trainer.images import Picture
from polyward_client.trainer.volume import Values
from polyward_shared.problems import Problem
from polyward_shared.study import Image

LUMINANCE = np.asarray([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow
Scalar = TypeVar("Scalar", bound=np.generic)
LINEAR = {2: "bilinear", 3: "trilinear"}


def shaped(picture: Picture, image: Image, *, where: str) -> Values:
    """float32 [channels, *size]. Raises `Problem`."""
    values = _intensity(_channels(picture.values, image.channels, where), image)
    return _fit(values, _target(picture, image, where), image.size)


def shaped_mask(mask: NDArray[np.uint8], picture: Picture, image: Image, *, where: str) -> NDArray[np.uint8]:
    """uint8 [*size]: the labels in the geometry of their picture, nearest neighbour."""
    target = _target(picture, image, where)
    if mask.shape != target:
        moved = torch.from_numpy(mask[None, None].astype(np.float32))
        mask = F.interpolate(moved, size=target, mode="nearest-exact")[0, 0].numpy().astype(np.uint8)
    return _padded(mask, image.size)


def shaped_points(points: NDArray[np.float64], picture: Picture, image: Image, *, where: str) -> NDArray[np.float64]:
    """[n, dims] places in array-index coordinates of the stored picture -> the same places in the study's form.

    Pixel centres lie at whole numbers and pixel borders half-way between, as in `F.interpolate(align_corners=False)`,
    so a side of n pixels reaches from -0.5 to n - 0.5. NaN stays NaN. Raises `Problem`.
    """
    old, new = np.asarray(picture.values.shape[1:], float), np.asarray(_target(picture, image, where), float)
    before = (np.asarray(image.size) - new) // 2  # padding, as in `_padded`
    return np.asarray((points + 0.5) * new / old - 0.5 + before, float)


def unshaped(values: Values, picture: Picture, image: Image, *, where: str) -> Values:
    """Maps in the study's form, float32 [channels, *image.size] -> on the grid of their picture [channels, *its size].

    The way of `shaped` backwards: the padding is cut off, the rest is resampled, linearly. Raises `Problem`.
    """
    stored, target = picture.values.shape[1:], _target(picture, image, where)
    before = [(side - found) // 2 for side, found in zip(image.size, target, strict=True)]
    inside = tuple(slice(start, start + side) for start, side in zip(before, target, strict=True))
    cut = np.ascontiguousarray(values[(slice(None), *inside)], np.float32)
    if target == stored:
        return cut
    moved: Values = F.interpolate(
        torch.from_numpy(cut)[None], size=stored, mode=LINEAR[len(stored)], align_corners=False
    )[0].numpy()
    return moved


def unshaped_points(points: NDArray[np.float64], picture: Picture, image: Image, *, where: str) -> NDArray[np.float64]:
    """[n, dims] places in the study's form -> array-index coordinates of the stored picture: `shaped_points` backwards.

    NaN stays NaN. Raises `Problem`.
    """
    old, new = np.asarray(picture.values.shape[1:], float), np.asarray(_target(picture, image, where), float)
    before = (np.asarray(image.size) - new) // 2
    return np.asarray((points - before + 0.5) * old / new - 0.5, float)


def _channels(values: Values, wanted: int, where: str) -> Values:
    found = values.shape[0]
    if found == wanted:
        return values
    if found == 3 and wanted == 1:
        return np.tensordot(LUMINANCE, values, axes=1)[None].astype(np.float32)
    if found == 1 and wanted == 3:
        return np.repeat(values, 3, axis=0)
    raise Problem(where, f"has {found} channels", expected=f"{wanted}, as the study's image.channels")


def _intensity(values: Values, image: Image) -> Values:
    """Each channel on its own: a constant one becomes zero."""
    axes = tuple(range(1, values.ndim))
    if isinstance(image.intensity, tuple):
        low, high = image.intensity
        return np.asarray((values.clip(low, high) - low) / (high - low), np.float32)
    if image.intensity == "minmax":
        base = values.min(axis=axes, keepdims=True)
        spread = values.max(axis=axes, keepdims=True) - base
    else:
        base = values.mean(axis=axes, keepdims=True, dtype=np.float64)
        spread = values.std(axis=axes, keepdims=True, dtype=np.float64)
    return np.asarray(np.divide(values - base, spread, out=np.zeros(values.shape), where=spread > 0), np.float32)


def _target(picture: Picture, image: Image, where: str) -> tuple[int, ...]:
    """The size after resampling, before padding: the largest that fits; with `spacing`, never enlarged beyond it."""
    shape = np.asarray(picture.values.shape[1:], float)
    factor = np.ones_like(shape)
    if image.spacing is not None:
        if picture.spacing is None:
            raise Problem(where, "does not say its spacing", expected="a file with spacing, for image.spacing is set")
        factor = np.asarray(picture.spacing) / np.asarray(image.spacing)
    room = float((np.asarray(image.size) / (shape * factor)).min())
    if image.spacing is None or room < 1:
        factor = factor * room
    sides = np.rint(shape * factor).astype(int).clip(1, image.size)
    return tuple(int(side) for side in sides)


def _fit(values: Values, target: tuple[int, ...], size: tuple[int, ...]) -> Values:
    if values.shape[1:] != target:
        for axis, (old, new) in enumerate(zip(values.shape[1:], target, strict=True), start=1):
            if new < old:  # smooth first, or thin structures alias: sigma as in scikit-image's resize
                values = gaussian_filter1d(values, (old / new - 1) / 2, axis=axis, mode="nearest")
        moved = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
        values = F.interpolate(moved, size=target, mode=LINEAR[len(size)], align_corners=False)[0].numpy()
    return _padded(values, size)


def _padded(values: NDArray[Scalar], size: tuple[int, ...]) -> NDArray[Scalar]:
    """Zeros around the last axes, the content in the middle."""
    free = [wanted - found for wanted, found in zip(size, values.shape[-len(size) :], strict=True)]
    around = [(0, 0)] * (values.ndim - len(size)) + [(gap // 2, gap - gap // 2) for gap in free]
    padded: NDArray[Scalar] = np.pad(values, around) if any(free) else values
    return padded
