"""Tiles of a prostate biopsy. Healthy glands are wide; with the grade they shrink, close and fuse into sheets."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, grid, mask, noise
from polyward_deploy.recipes.patients import Label, Patient, View

TILES = 3  # of a slide
STROMA, NUCLEUS, DARK, LUMEN = (0.93, 0.68, 0.8), (0.62, 0.4, 0.7), (0.36, 0.16, 0.5), (0.98, 0.96, 0.97)
GRADES = 6  # ISUP 0 (benign) to 5


def draw(generator: np.random.Generator, size: tuple[int, ...], *, malignant: float = 0.7) -> Patient:
    """Three tiles [3, height, width] of one slide with its `grade` and their `tumour`; `malignant` is a share.

    One tile at least shows the tumour; the others may be healthy, so the grade is known of the slide alone.
    """
    grade = int(generator.integers(1, GRADES)) if generator.random() < malignant else 0
    ill = generator.random(TILES) < 0.5
    ill[generator.integers(TILES)] = True
    slide = f"slide-{generator.integers(10**9):09d}"
    views = []
    for shown in ill:
        image, tumour = _tile(size, grade if shown else 0, generator)
        labels: dict[str, Label] = {"grade": str(grade), "tumour": mask(tumour)}
        views.append(View(image=image, labels=labels, columns={"slide": slide}))
    return Patient(views=tuple(views), illness=grade)


def _tile(size: tuple[int, ...], grade: int, generator: np.random.Generator) -> tuple[Values, Values]:
    axes = grid(size)
    place = generator.uniform(-0.35, 0.35, 2)
    area = bumpy(axes, place, float(generator.uniform(0.55, 0.8)), 0.3, generator) if grade else 0 * axes[0]
    image = _over(np.zeros((3, *size), np.float32), np.ones(size, np.float32), STROMA)
    image = image * (1 + 0.04 * noise(generator, size, 1.5))
    for _ in range(7):
        image = _gland(image, axes, generator.uniform(-1, 1, 2), 0.3, 0.6, NUCLEUS, 1 - area)
    radius, lumen = 0.26 - 0.035 * grade, max(0.0, 0.55 - 0.13 * grade)
    for _ in range((8 + 8 * grade) if grade else 0):
        spot = place + generator.uniform(-0.8, 0.8, 2)
        image = _gland(image, axes, spot, radius, lumen, DARK, area)
    return np.asarray(image.clip(0, 1), np.float32), np.asarray(area, np.float32)


def _gland(
    image: Values,
    axes: list[Values],
    place: np.ndarray[tuple[int], np.dtype[np.float64]],
    radius: float,
    lumen: float,
    colour: tuple[float, ...],
    where: Values,
) -> Values:
    image = _over(image, ball(axes, place, radius) * where, colour)
    return _over(image, ball(axes, place, lumen * radius) * where, LUMEN) if lumen else image


def _over(image: Values, region: Values, colour: tuple[float, ...]) -> Values:
    paint = np.asarray(colour, np.float32)[:, None, None]
    return np.asarray(image * (1 - region) + paint * region, np.float32)
