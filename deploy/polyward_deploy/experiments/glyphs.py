"""Digits drawn by a program: strokes that are bent, turned, sheared, stretched and moved, under noise.

A glyph is a line through points in a unit square, x to the right and y down. Nobody wrote these digits; they stand in
for handwriting where no data set is at hand, and show an ordering of methods, no figures of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyward_deploy.experiments.digits import CLASSES, SIDE, SITES, Digits
from polyward_deploy.experiments.network import Labels, Values

TEST_IMAGES = 300  # at each site
POOL = 200  # training images at each site, of which a run takes the first
CONCENTRATION = 0.1  # of the Dirichlet draw: few classes at a site, as in the split of MNIST
SEED = 7
CHUNK = 256  # images that are drawn at once

BEND, TURN, SHEAR, STRETCH, MOVE = 0.05, 0.35, 0.35, (0.65, 1.05), 0.12  # of a glyph, in its own size and radians
PEN, INK = (0.035, 0.075), (0.55, 1.0)
NOISE = 0.3

GLYPHS = (  # points of 0 to 9, in hundredths
    "50,0 20,15 10,50 20,85 50,100 80,85 90,50 80,15 50,0",
    "30,25 55,0 55,100",
    "12,25 30,3 70,3 85,28 65,55 10,100 90,100",
    "15,10 50,0 85,20 75,42 45,48 80,56 88,80 50,100 10,88",
    "70,100 70,0 10,68 95,68",
    "85,0 22,0 18,45 60,40 88,65 70,95 35,100 10,88",
    "70,0 30,30 12,70 35,100 70,97 86,72 60,50 30,58 14,78",
    "10,0 90,0 60,45 40,100",
    "50,48 20,30 35,2 68,2 80,28 50,48 14,75 30,100 70,100 86,75 50,48",
    "82,28 60,50 25,42 16,18 45,0 78,10 84,40 75,75 50,100",
)
POINTS = max(len(glyph.split()) for glyph in GLYPHS)


def drawn_sites(samples: int) -> list[Digits]:
    """Twenty sites with `samples` training images of at most `POOL`; the same images whenever it is called."""
    if samples > POOL:
        raise ValueError(f"found samples = {samples}; expected at most {POOL}")
    sites = []
    for site in range(SITES):
        generator = np.random.default_rng((SEED, site))
        chances = generator.dirichlet(np.full(CLASSES, CONCENTRATION))
        y = generator.choice(CLASSES, POOL + TEST_IMAGES, p=chances)
        x = draw(generator, y)
        sites.append(Digits(x[:samples], y[:samples], x[POOL:], y[POOL:]))
    return sites


def draw(generator: np.random.Generator, classes: Labels) -> Values:
    """One image of -1 to 1 for each class: [images, 784]."""
    parts = [_drawn(generator, classes[start : start + CHUNK]) for start in range(0, len(classes), CHUNK)]
    return np.concatenate(parts)


def _drawn(generator: np.random.Generator, classes: Labels) -> Values:
    count = len(classes)
    lines = _padded()[classes] + BEND * generator.standard_normal((count, POINTS, 2)).astype(np.float32)
    lines = np.einsum("npk,nkl->npl", lines - np.float32(0.5), _distortions(generator, count))
    lines += (0.5 + generator.uniform(-MOVE, MOVE, (count, 1, 2))).astype(np.float32)
    pen, ink = (generator.uniform(*span, (count, 1)).astype(np.float32) for span in (PEN, INK))
    depth = 1 - _distance(lines) / pen  # 1 on the line, 0 at the pen's rim
    image = ink * np.clip(0.5 + pen * SIDE * depth, 0, 1)
    image += np.float32(NOISE) * generator.standard_normal(image.shape, np.float32)
    return np.asarray(2 * np.clip(image, 0, 1) - 1, np.float32)


def _padded() -> NDArray[np.float32]:
    """All glyphs with the same number of points, the last one repeated: [classes, points, 2]."""
    glyphs = np.empty((len(GLYPHS), POINTS, 2), np.float32)
    for glyph, text in zip(glyphs, GLYPHS, strict=True):
        line = [[int(part) / 100 for part in point.split(",")] for point in text.split()]
        glyph[:] = line[-1]
        glyph[: len(line)] = line
    return glyphs


def _distortions(generator: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Turn, shear and stretch as matrices [images, 2, 2] that are multiplied from the right."""
    angle = generator.normal(0, TURN / 2, count)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], -2)
    shear = np.tile(np.eye(2), (count, 1, 1))
    shear[:, 1, 0] = generator.normal(0, SHEAR / 2, count)
    stretch = 0.75 * generator.uniform(*STRETCH, (count, 1, 2))  # a margin is left
    return np.asarray(stretch * (shear @ turn), np.float32)


def _distance(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    """From every pixel to the nearest segment of its image's line [images, points, 2]: [images, pixels]."""
    centres = (np.arange(SIDE, dtype=np.float32) + np.float32(0.5)) / np.float32(SIDE)
    y, x = (axis.ravel() for axis in np.meshgrid(centres, centres, indexing="ij"))
    nearest = np.full((len(lines), SIDE * SIDE), np.inf, np.float32)
    for first, last in zip(lines.swapaxes(0, 1)[:-1], lines.swapaxes(0, 1)[1:], strict=True):
        along = last - first
        length = np.maximum((along**2).sum(axis=1), np.float32(1e-9))[:, None]
        from_x, from_y = x - first[:, :1], y - first[:, 1:]
        place = np.clip((from_x * along[:, :1] + from_y * along[:, 1:]) / length, 0, 1)
        np.minimum(nearest, np.hypot(from_x - place * along[:, :1], from_y - place * along[:, 1:]), out=nearest)
    return nearest
