"""One affine matrix for each image -> where its pixels, masks, points and boxes go.

A matrix [dims, dims + 1] holds A and t of p' = A p + t, with p in pixels from the image's centre and axes in the order
of the array. Pixel centres lie at whole numbers, so an image of n pixels reaches from -0.5 to n - 0.5.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

KEPT_AREA = 0.25  # of a moved box that must lie inside the image
POINTLIKE = 1e-6  # added to the sides of boxes, so that one without extent is inside or outside too

Matrices = NDArray[np.float64]  # [batch, dims, dims + 1]


def mirrored(values: Tensor, matrices: Matrices, *, nearest: bool = False, fill: float = 0.0) -> Tensor:
    """As `warped` where matrices only mirror: exact for any dtype, with nothing to fill. [batch, channels, ...]."""
    for axis in range(values.ndim - 2):
        chosen = on(np.flatnonzero(matrices[:, axis, axis] < 0), values.device)
        if len(chosen):
            values = values.index_copy(0, chosen, values[chosen].flip(axis + 2))
    return values


def warped(values: Tensor, matrices: Matrices, *, nearest: bool = False, fill: float = 0.0) -> Tensor:
    """[batch, channels, *spatial] moved, linear or nearest neighbour, with `fill` where nothing was. Keeps dtype."""
    # grid_sample asks for each new pixel where it came from, in units of half the image, last axis first.
    half = np.asarray(values.shape[2:]) / 2
    back = np.linalg.inv(matrices[:, :, :-1])
    came = np.concatenate((back * half, -back @ matrices[:, :, -1:]), 2) / half[:, None]
    theta = np.concatenate((came[:, ::-1, -2::-1], came[:, ::-1, -1:]), 2).astype(np.float32)
    shape = [len(values), 1, *values.shape[2:]]
    grid = F.affine_grid(on(theta, values.device), shape, align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    sampled = F.grid_sample(values.float() - fill, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return (sampled + fill).to(values.dtype)


def moved_points(points: Tensor, matrices: Matrices, size: tuple[int, ...]) -> Tensor:
    """[batch, points, dims], NaN where a place has left the image."""
    linear, offset, centre = _terms(points, matrices, size)
    places = (linear * (points - centre)[:, :, None]).sum(3) + offset + centre
    inside = ((places >= -0.5) & (places <= 2 * centre + 0.5)).all(2, keepdim=True)
    return torch.where(inside, places, torch.nan)


def moved_boxes(boxes: Tensor, matrices: Matrices, size: tuple[int, ...]) -> Tensor:
    """[batch, boxes, 2 dims + 1]. A turned box's hull reaches |A| times its half sides around its moved centre."""
    dims = len(size)
    linear, offset, centre = _terms(boxes, matrices, size)
    low, high = boxes[..., :dims], boxes[..., dims : 2 * dims]
    middle = (linear * ((low + high) / 2 - centre)[:, :, None]).sum(3) + offset + centre
    reach = (linear.abs() * ((high - low) / 2)[:, :, None]).sum(3)
    low, high = middle - reach, middle + reach
    left_low, left_high = low.clamp(min=-0.5), torch.minimum(high, 2 * centre + 0.5)
    left = ((left_high - left_low + POINTLIKE) / (high - low + POINTLIKE)).clamp(min=0).prod(2, keepdim=True)
    return torch.where(left >= KEPT_AREA, torch.cat((left_low, left_high, boxes[..., 2 * dims :]), 2), torch.nan)


def _terms(values: Tensor, matrices: Matrices, size: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """[batch, 1, dims, dims], [batch, 1, dims] and [dims]: the matrices, the offsets and the image's centre."""
    whole = on(matrices, values.device).to(values.dtype)[:, None]
    centre = on((np.asarray(size) - 1) / 2, values.device).to(values.dtype)
    return whole[..., :-1], whole[..., -1], centre


def on(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """The values on the device, without a wait for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
