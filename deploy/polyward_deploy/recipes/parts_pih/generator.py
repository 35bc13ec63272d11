"""An infant's head on low-field MR: ventricles narrow, wide and even, or wide, uneven and crossed by membranes."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, bumpy, ellipse, grid, mask, noise, painted, spline, tube, turned
from polyward_deploy.recipes.patients import Label, Patient, View

SLICES = 2  # of a patient
HEALTHY = 0.25  # share of the patients


def draw(generator: np.random.Generator, size: tuple[int, ...], *, infection: float = 0.5) -> Patient:
    """Two slices [1, height, width] with `csf`, `brain` and `hydrocephalus`; `infection`: share among the ill."""
    healthy = bool(generator.random() < HEALTHY)
    infected = not healthy and bool(generator.random() < infection)
    width = float(generator.uniform(0.06, 0.1) if healthy else generator.uniform(0.2, 0.3))
    evenness = float(generator.uniform(0.5, 0.75) if infected else generator.uniform(0.92, 1.0))
    kind = "healthy" if healthy else "post_infectious" if infected else "non_post_infectious"
    smaller = int(generator.choice((-1, 1)))
    views = []
    for number in range(SLICES):
        axes = turned(grid(size), angle=float(generator.normal(0, 0.08)))
        scale = 1.0 - 0.1 * number
        sides = {side: width * scale * (evenness if side == smaller else 1.0) for side in (-1, 1)}
        csf, image, brain = _slice(axes, sides, infected, generator)
        labels: dict[str, Label] = {"csf": mask(csf), "brain": mask(brain), "hydrocephalus": kind}
        views.append(View(image=np.asarray(image[None], np.float32), labels=labels))
    return Patient(views=tuple(views), illness=0.0 if healthy else width + float(infected))


def _slice(
    axes: list[Values], sides: dict[int, float], infected: bool, generator: np.random.Generator
) -> tuple[Values, Values, Values]:
    """CSF, the picture, and the brain without CSF."""
    size = axes[0].shape
    head = ellipse(axes, (0.0, 0.0), (0.92, 0.8))
    inner = ellipse(axes, (0.0, 0.0), (0.84, 0.72))  # within the skull
    cortex = ellipse(axes, (0.0, 0.0), (0.78, 0.66))
    ventricles = np.zeros_like(head)
    for side, width in sides.items():
        centre = (0.0, side * (0.04 + 0.95 * width))
        horn = ellipse(axes, centre, (0.25 + width, width))
        if infected:
            horn = np.maximum(horn, bumpy(axes, (centre[0] + 0.2, centre[1]), 0.9 * width, 0.9, generator))
        ventricles = np.maximum(ventricles, horn * cortex)
    membranes = np.zeros_like(head)
    for _ in range(3 if infected else 0):
        height = float(generator.uniform(-0.3, 0.3))
        line = spline([(height, -0.6), (height + float(generator.normal(0, 0.12)), 0.0), (height, 0.6)], 8)
        membranes = np.maximum(membranes, tube(axes, line, 0.02))
    csf = np.maximum(inner * (1 - cortex), ventricles * (1 - 0.9 * membranes))
    brain = cortex * (1 - ventricles)
    image = painted(head * 0.3, inner, 0.9)  # T2: water is bright
    image = painted(image, cortex, 0.45 + 0.04 * noise(generator, size, 2.5))
    cloudy = np.float32(0.12 if infected else 0.0)
    water = 0.92 - cloudy * np.abs(noise(generator, size, 1.5))
    image = painted(image, ventricles, water)
    return csf, painted(image, membranes * ventricles, 0.4), brain
