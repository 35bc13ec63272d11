"""A small kit for generators: shapes with soft edges, tubes along curves, textures, and colours.

Coordinates run from -1 to 1 along every axis, slowest axis first. A region is 1 inside and 0 outside, with an edge as
wide as a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from polyward_deploy.phantoms import Scanner, Values, Vector, ellipsoid, paint, scan, texture

__all__ = ["Values", "Vector", "ball", "bumpy", "cells", "coloured", "ellipse", "grid", "mask", "noise", "painted"]
__all__ += ["scanned", "spline", "tree", "tube", "turned"]

Point = Sequence[float] | NDArray[np.float64]


def grid(size: Sequence[int]) -> list[Values]:
    """The coordinates of the pixels' middles, one array for each axis, all of the shape `size`."""
    lines = [(np.arange(side, dtype=np.float32) + 0.5) * np.float32(2 / side) - 1 for side in size]
    return list(np.meshgrid(*lines, indexing="ij"))


def turned(axes: Sequence[Values], *, shift: Sequence[float] = (), angle: float = 0.0) -> list[Values]:
    """The same pixels in a frame that is moved by `shift` and turned by `angle` in the plane of the last two axes."""
    moved = [axis - np.float32(s) for axis, s in zip(axes, shift or (0.0,) * len(axes), strict=True)]
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = moved[-2], moved[-1]
    return [*moved[:-2], cosine * y - sine * x, sine * y + cosine * x]


def ellipse(axes: Sequence[Values], centre: Point, semi: Point) -> Values:
    """The region of an ellipse or ellipsoid with these semi-axes."""
    return ellipsoid(list(axes), tuple(centre), tuple(semi), _pixel(axes))


def ball(axes: Sequence[Values], centre: Point, radius: float) -> Values:
    """The region of a disc or ball."""
    return ellipse(axes, centre, (radius,) * len(axes))


def bumpy(
    axes: Sequence[Values], centre: Point, radius: float, irregularity: float, generator: np.random.Generator
) -> Values:
    """A ball whose radius varies with the direction, the more the higher `irregularity` (0 to 1)."""
    away = [axis - np.float32(c) for axis, c in zip(axes, centre, strict=True)]
    distance = np.sqrt(sum(np.square(part) for part in away)) + np.float32(1e-6)
    bumps = np.zeros_like(distance)
    for _ in range(4):
        direction = generator.normal(size=len(axes))
        direction *= generator.uniform(3, 8) / np.linalg.norm(direction)
        along = sum(part * np.float32(d) for part, d in zip(away, direction, strict=True)) / distance
        bumps += np.cos(along + np.float32(generator.uniform(0, 2 * np.pi)))
    limit = radius * np.clip(1 + 0.3 * irregularity * bumps, 0.4, 1.8)
    return np.asarray(np.clip((limit - distance) / _pixel(axes) + 0.5, 0, 1), np.float32)


def spline(points: Sequence[Point], steps: int = 24) -> NDArray[np.float64]:
    """A smooth curve [steps, dimensions] through at least two points."""
    places, degree = np.linspace(0, 1, len(points)), min(3, len(points) - 1)
    curve: NDArray[np.float64] = make_interp_spline(places, np.asarray(points, float), degree)(np.linspace(0, 1, steps))
    return curve


def tube(axes: Sequence[Values], curve: NDArray[np.float64], radius: float | NDArray[np.float64]) -> Values:
    """The region within `radius` (one, or one for each point) of a curve [points, dimensions]."""
    radii = np.broadcast_to(radius, len(curve))
    nearest = np.full(axes[0].shape, np.inf, np.float32)
    for start, end, r in zip(curve[:-1], curve[1:], radii[1:], strict=True):
        along = end - start
        length = float(along @ along) or 1e-12
        place = sum((axis - np.float32(s)) * np.float32(d) for axis, s, d in zip(axes, start, along, strict=True))
        share = np.clip(place / np.float32(length), 0, 1)
        gaps = (axis - np.float32(s) - share * np.float32(d) for axis, s, d in zip(axes, start, along, strict=True))
        nearest = np.minimum(nearest, np.sqrt(sum(np.square(gap) for gap in gaps)) - np.float32(r))
    return np.asarray(np.clip(0.5 - nearest / _pixel(axes), 0, 1), np.float32)


def tree(
    generator: np.random.Generator, start: Point, direction: Point, *, length: float, depth: int
) -> list[tuple[NDArray[np.float64], int]]:
    """Curves of a branching vessel, each with its generation counted from 0; every one splits into two shorter ones."""
    base, heading = np.asarray(start, float), np.asarray(direction, float)
    heading = heading / np.linalg.norm(heading)
    curves: list[tuple[NDArray[np.float64], int]] = []
    tips = [(base, heading)]
    for generation in range(depth):
        grown = []
        for tip, way in tips:
            bend = generator.normal(0, 0.12, len(tip)) * length
            end = tip + way * length
            curves.append((spline([tip, (tip + end) / 2 + bend, end], 5), generation))
            for side in (-1, 1):
                fork = generator.normal(0, 1, len(tip))
                fork -= (fork @ way) * way
                turn = way + side * 0.6 * fork / (np.linalg.norm(fork) + 1e-9)
                grown.append((end, turn / np.linalg.norm(turn)))
        tips, length = grown, length * 0.7
    return curves


def painted(image: Values, region: Values, value: float | Values) -> Values:
    """The image with `value` where the region is."""
    return paint(image, region, np.asarray(value, np.float32))


def noise(generator: np.random.Generator, size: Sequence[int], sigma: float) -> Values:
    """Filtered noise of mean 0 and standard deviation 1; `sigma` in pixels of a 64-pixel image."""
    return texture(generator, tuple(size), sigma * size[-1] / 64)


def coloured(grey: Values, colour: Point) -> Values:
    """[*spatial] -> [channels, *spatial]: the brightness times each channel's share."""
    return np.stack([grey * np.float32(share) for share in colour])


def mask(*regions: Values) -> NDArray[np.uint8]:
    """Labels 1, 2, ... of the regions in order; a later one covers those before."""
    labels = np.zeros(regions[0].shape, np.uint8)
    for number, region in enumerate(regions, start=1):
        labels[region > 0.5] = number
    return labels


def cells(place: Point, size: Sequence[int]) -> str:
    """A point (..., y, x) in -1 to 1 as a landmark's cell: `x y` in pixels."""
    pixels = [(p + 1) / 2 * side - 0.5 for p, side in zip(place, size, strict=True)]
    return " ".join(f"{pixel:.1f}" for pixel in reversed(pixels))


def scanned(image: Values, scanner: Scanner, generator: np.random.Generator) -> NDArray[np.uint8]:
    """[channels, *spatial] as a device stores it, every channel with its own noise."""
    return np.stack([scan(channel, scanner, generator) for channel in image])


def _pixel(axes: Sequence[Values]) -> float:
    return 2 / max(int(side) for side in axes[0].shape)
