"""A metastasis in brain. In this generated world a mutated tumour is rounder, with a dark core; no claim about EGFR."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import ball, bumpy, grid, mask, noise, painted, spline, tube, turned
from polyward_deploy.recipes.patients import Label, Patient, View


def draw(generator: np.random.Generator, size: tuple[int, ...], *, mutated: float = 0.5) -> Patient:
    """One crop [1, depth, height, width] with `gtv` and `egfr`; `mutated` is the share with the mutation."""
    mutation = bool(generator.random() < mutated)
    radius = float(generator.uniform(0.35, 0.62))
    rough = float(np.clip(generator.normal(0.25 if mutation else 0.8, 0.12), 0, 1))
    necrosis = float(np.clip(generator.normal(0.6 if mutation else 0.2, 0.1), 0.05, 0.75))  # share of the radius
    axes = turned(grid(size), angle=float(generator.uniform(-0.5, 0.5)))
    centre = tuple(float(c) for c in generator.uniform(-0.18, 0.18, 3))
    tumour = bumpy(axes, centre, radius, rough, generator)
    image = np.asarray(0.35 + 0.04 * noise(generator, size, 6.0), np.float32)
    oedema = bumpy(axes, centre, 1.4 * radius, 0.6, generator)
    image = painted(image, oedema, 0.24 + 0.02 * noise(generator, size, 3.0))
    start, end = generator.uniform(-1, 1, 3), generator.uniform(-1, 1, 3)
    image = painted(image, tube(axes, spline([start, (start + end) / 2 + 0.2, end], 6), 0.05), 0.8)
    image = painted(image, tumour, 0.75 + 0.05 * noise(generator, size, 3.0))
    image = painted(image, ball(axes, centre, necrosis * radius), 0.3)
    labels: dict[str, Label] = {"gtv": mask(tumour), "egfr": str(int(mutation))}
    return Patient(views=(View(image=image[None], labels=labels),), illness=necrosis - rough)
