"""A view into the colon. Activity reddens the wall, hides its vessels, and brings erosions, then ulcers and blood."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, coloured, grid, noise, tree, tube
from polyward_deploy.recipes.patients import Patient, View

WALL, RED = np.array([0.85, 0.55, 0.45]), np.array([0.8, 0.22, 0.18])
VESSEL, ULCER, BLOOD = (0.62, 0.2, 0.2), (0.95, 0.9, 0.7), (0.55, 0.02, 0.04)
EROSIONS = 1.6  # activity from which they appear
VIEWS = 2  # images of a patient


def draw(generator: np.random.Generator, size: tuple[int, ...], *, activity: float = 1.5) -> Patient:
    """Two images [3, height, width] with `mayo` and `remission`; `activity`: the mean, on the score's scale."""
    level = float(np.clip(generator.normal(activity, 1.2), -0.45, 3.45))
    score = int(np.clip(round(level), 0, 3))
    labels = {"mayo": str(score), "remission": str(int(score <= 1))}
    views = tuple(View(image=_wall(size, max(level, 0.0), generator), labels=labels) for _ in range(VIEWS))
    return Patient(views=views, illness=level)


def _wall(size: tuple[int, ...], level: float, generator: np.random.Generator) -> Values:
    axes = grid(size)
    share = level / 3.5
    lumen = tuple(float(c) for c in generator.uniform(-0.3, 0.3, 2))
    away = np.sqrt(sum(np.square(axis - np.float32(c)) for axis, c in zip(axes, lumen, strict=True)))
    folds = 0.06 * np.cos(18 * away + generator.uniform(0, 6))
    light = np.clip(0.35 + 0.5 * away, 0, 0.95) + folds + (0.01 + 0.04 * share) * noise(generator, size, 1.0)
    image = coloured(light.astype(np.float32), (1 - share) * WALL + share * RED)
    for _ in range(3):
        start = generator.uniform(-0.9, 0.9, 2)
        for curve, generation in tree(generator, start, generator.normal(size=2), length=0.5, depth=2):
            seen = np.float32(max(0.0, 0.9 - 0.55 * level)) * tube(axes, curve, 0.03 / (1 + generation))
            image = image * (1 - seen) + coloured(seen, VESSEL)
    for _ in range(max(0, round(6 * (level - EROSIONS) + 2)) if level > EROSIONS else 0):
        spot = generator.uniform(-0.85, 0.85, 2)
        wound = bumpy(axes, spot, 0.05 + 0.05 * max(0.0, level - EROSIONS), 0.7, generator)
        image = image * (1 - wound) + coloured(wound, ULCER)
        if level > 2.5:
            drop = ball(axes, spot + generator.normal(0, 0.15, 2), 0.07)
            image = image * (1 - drop) + coloured(drop, BLOOD)
    return np.asarray(image, np.float32)
