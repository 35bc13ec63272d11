"""A brain in four MR sequences with a lesion that is bright on DWI, FLAIR and T2 and dark on T1."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import bumpy, ellipse, grid, mask, noise, painted, turned
from polyward_deploy.recipes.patients import Patient, View

WHITE = (0.4, 0.45, 0.62, 0.38)  # DWI, FLAIR, T1, T2
CORTEX = (0.46, 0.55, 0.48, 0.5)
FLUID = (0.12, 0.1, 0.15, 0.95)
LESION = (0.5, 0.32, -0.14, 0.25)  # added


def draw(generator: np.random.Generator, size: tuple[int, ...], *, severity: float = 0.5) -> Patient:
    """One volume [4, depth, height, width] with `lesion`; `severity` sets its size, and how clearly DWI shows it."""
    axes = turned(grid(size), shift=tuple(generator.normal(0, 0.03, 3)), angle=float(generator.normal(0, 0.1)))
    radius = float(np.clip(generator.normal(0.2 + 0.15 * severity, 0.06), 0.15, 0.45))
    side = 1 if generator.random() < 0.5 else -1
    centre = (
        float(generator.uniform(-0.35, 0.35)),
        float(generator.uniform(-0.3, 0.3)),
        side * float(generator.uniform(0.25, 0.42)),
    )
    brain = ellipse(axes, (0.0, 0.0, 0.0), (0.9, 0.85, 0.7))
    inner = ellipse(axes, (0.0, 0.0, 0.0), (0.72, 0.68, 0.54))
    fluid = np.maximum(*(ellipse(axes, (0.0, 0.0, s * 0.12), (0.4, 0.28, 0.07)) for s in (-1, 1)))
    lesion = bumpy(axes, centre, radius, 0.5, generator) * brain * (1 - fluid)
    fresh = float(generator.uniform(0.5, 1.0))  # days after the stroke DWI fades
    texture = 0.03 * noise(generator, size, 2.0)
    channels = []
    for white, cortex, water, change in zip(WHITE, CORTEX, FLUID, LESION, strict=True):
        plain = painted(painted(painted(0 * brain, brain, cortex + texture), inner, white + texture), fluid, water)
        channels.append(plain + np.float32(change * (fresh if change == LESION[0] else 1.0)) * lesion)
    image = np.stack(channels).astype(np.float32)
    return Patient(views=(View(image=image, labels={"lesion": mask(lesion)}),), illness=radius)
