"""A slice of brain with a blocked territory: late blood around (penumbra), no blood inside (core), bright on DWI."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, bumpy, ellipse, grid, mask, noise, painted, turned
from polyward_deploy.recipes.patients import Label, Patient, View

SLICES = 2  # of a slab


def draw(generator: np.random.Generator, size: tuple[int, ...], *, severity: float = 0.5) -> Patient:
    """Two slices [5, height, width] (CT, CBF, CBV, MTT, Tmax) with `dwi` and `core`; `severity`: of the core."""
    side = 1 if generator.random() < 0.5 else -1
    radius = float(np.clip(generator.normal(0.16 + 0.16 * severity, 0.06), 0.1, 0.4))
    centre = (float(generator.uniform(-0.25, 0.25)), side * float(generator.uniform(0.28, 0.45)))
    margin = float(generator.uniform(1.3, 1.8))  # of the penumbra
    angle = float(generator.normal(0, 0.08))
    views = []
    for number in range(SLICES):
        axes = turned(grid(size), angle=angle)
        shown = radius * (1.0 if number == 0 else float(generator.uniform(0.6, 1.0)))
        views.append(_slice(axes, centre, shown, margin, generator))
    return Patient(views=tuple(views), illness=radius)


def _slice(
    axes: list[Values], centre: tuple[float, float], radius: float, margin: float, generator: np.random.Generator
) -> View:
    size = axes[0].shape
    brain = ellipse(axes, (0.0, 0.0), (0.84, 0.68))
    skull = ellipse(axes, (0.0, 0.0), (0.93, 0.77))
    ventricles = np.maximum(*(ellipse(axes, (0.0, s * 0.09), (0.24, 0.06)) for s in (-1, 1)))
    core = bumpy(axes, centre, radius, 0.5, generator) * brain * (1 - ventricles)
    late = np.maximum(bumpy(axes, centre, margin * radius, 0.4, generator) * brain * (1 - ventricles), core)
    grey = 0.5 + 0.04 * noise(generator, size, 2.0)
    tissue = brain * (1 - ventricles)
    ct = painted(painted(skull * 0.95, brain, 0.45 + 0.02 * noise(generator, size, 1.5)), ventricles, 0.25)
    ct = ct - 0.05 * core
    flow = tissue * grey * (1 - 0.4 * late - 0.45 * core)
    volume = tissue * grey * (1 + 0.1 * late - 0.6 * core)
    transit = tissue * (0.3 + 0.35 * late + 0.1 * core + 0.03 * noise(generator, size, 2.0))
    delay = tissue * (0.12 + 0.5 * late + 0.2 * core + 0.03 * noise(generator, size, 2.0))
    diffusion = painted(brain * (0.35 + 0.03 * noise(generator, size, 1.5)), ventricles, 0.08) + 0.5 * core
    labels: dict[str, Label] = {"core": mask(core), "dwi": np.asarray(diffusion[None], np.float32)}
    return View(image=np.stack([ct, flow, volume, transit, delay]).astype(np.float32), labels=labels)
