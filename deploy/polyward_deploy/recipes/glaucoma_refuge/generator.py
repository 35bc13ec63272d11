"""A fundus: disc, cup, vessels that leave the disc, and the fovea. A large cup in its disc is glaucoma."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, cells, coloured, ellipse, grid, mask, noise, tree, tube
from polyward_deploy.recipes.patients import Label, Patient, View

RETINA, DISC, CUP, VESSEL = (0.75, 0.36, 0.16), (0.95, 0.72, 0.42), (1.0, 0.92, 0.74), (0.5, 0.12, 0.08)
HEALTHY, ILL = (0.42, 0.08), (0.72, 0.06)  # vertical cup-to-disc ratio: mean and spread


def draw(generator: np.random.Generator, size: tuple[int, ...], *, prevalence: float = 0.4) -> Patient:
    """One photograph [3, height, width] with `disc_cup`, `glaucoma` and `fovea`."""
    ill = bool(generator.random() < prevalence)
    ratio = float(np.clip(generator.normal(*(ILL if ill else HEALTHY)), 0.2, 0.9))
    side = 1 if generator.random() < 0.5 else -1  # left or right eye
    disc = (float(generator.uniform(-0.12, 0.12)), side * float(generator.uniform(0.36, 0.5)))
    radius = float(generator.uniform(0.2, 0.27))
    fovea = (disc[0] + float(generator.uniform(0.02, 0.14)), disc[1] - side * float(generator.uniform(0.62, 0.78)))
    axes = grid(size)
    outer = ellipse(axes, disc, (radius, 0.9 * radius))
    inner = ellipse(axes, disc, (ratio * radius, ratio * 0.85 * radius))
    image = _fundus(axes, disc, side, outer, inner, generator)
    dark = np.exp(-sum(np.square(axis - np.float32(c)) for axis, c in zip(axes, fovea, strict=True)) / 0.02)
    image = image * (1 - np.float32(0.55) * dark)
    labels: dict[str, Label] = {"disc_cup": mask(outer, inner), "glaucoma": str(int(ill)), "fovea": cells(fovea, size)}
    return Patient(views=(View(image=np.asarray(image, np.float32), labels=labels),), illness=ratio)


def _fundus(
    axes: list[Values], disc: tuple[float, float], side: int, outer: Values, inner: Values, rng: np.random.Generator
) -> Values:
    size = axes[0].shape
    image = coloured(0.75 + 0.05 * noise(rng, size, 4.0) + 0.02 * noise(rng, size, 0.8), RETINA)
    image = image * (1 - outer) + coloured(outer, DISC)
    image = image * (1 - inner) + coloured(inner, CUP)
    for up in (-1, 1):
        # arcades run above and below the fovea
        for curve, generation in tree(rng, disc, (up * 1.0, -side * 0.8), length=0.42, depth=3):
            vessel = np.float32(0.75) * tube(axes, curve, 0.022 / (1 + 0.5 * generation))
            image = image * (1 - vessel) + coloured(vessel, VESSEL)
    return image * ball(axes, (0.0, 0.0), 0.97)
