"""A glioma on T1, T1 with contrast, T2 and FLAIR, as a volume or a slice; high grade: a wide core, a bright rim."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, ellipse, grid, mask, noise, painted, turned
from polyward_deploy.recipes.patients import Label, Patient, View

# Brightness on T1, T1 with contrast, T2, FLAIR.
TISSUES = {
    "brain": (0.5, 0.5, 0.4, 0.42),
    "ventricle": (0.2, 0.2, 0.92, 0.12),
    "oedema": (0.4, 0.4, 0.72, 0.88),
    "core": (0.25, 0.25, 0.68, 0.55),
}
RIM_T1, RIM_T2, RIM_FLAIR = 0.42, 0.58, 0.65


def draw(generator: np.random.Generator, size: tuple[int, ...], *, grade: float = 0.5) -> Patient:
    """One volume [4, *size], or one slice where `size` has two sides, with `tumour` and `high_grade`.

    `grade` is the share of high grade.
    """
    high = bool(generator.random() < grade)
    extent = float(generator.uniform(0.3, 0.4))  # of the tumour without oedema
    necrosis = float(np.clip(generator.normal(0.72 if high else 0.45, 0.05), 0.3, 0.85))  # share of the radius
    uptake = float(np.clip(generator.normal(0.95 if high else 0.65, 0.05), 0, 1))
    axes = turned(grid(size), angle=float(generator.normal(0, 0.1)))
    flat = len(size) - 2  # axes before the plane
    side = 1 if generator.random() < 0.5 else -1
    centre = (*generator.uniform(-0.1, 0.1, flat), float(generator.uniform(-0.2, 0.2)), side * 0.3)
    brain = ellipse(axes, (0.0,) * len(size), (0.9,) * flat + (0.9, 0.76))
    middle = (0.0,) * (flat + 1)
    ventricles = np.maximum(*(ellipse(axes, (*middle, s * 0.1), (0.4,) * flat + (0.3, 0.07)) for s in (-1, 1)))
    oedema = bumpy(axes, centre, 1.45 * extent, 0.7, generator) * brain
    rim = bumpy(axes, centre, extent, 0.3, generator) * brain
    core = ball(axes, centre, necrosis * extent) * rim
    image = np.stack([_sequence(place, brain, ventricles, oedema, generator) for place in range(4)])
    for place, bright in enumerate((RIM_T1, uptake, RIM_T2, RIM_FLAIR)):
        image[place] = painted(image[place], rim, bright)
        image[place] = painted(image[place], core, TISSUES["core"][place])
    tumour = mask(core, oedema, rim)
    tumour[core > 0.5] = 1  # seen before the rim, which lies over it in `mask`
    labels: dict[str, Label] = {"tumour": tumour, "high_grade": str(int(high))}
    return Patient(views=(View(image=np.asarray(image, np.float32), labels=labels),), illness=necrosis + uptake)


def _sequence(place: int, brain: Values, ventricles: Values, oedema: Values, generator: np.random.Generator) -> Values:
    image = brain * (TISSUES["brain"][place] + 0.03 * noise(generator, brain.shape, 2.0))
    image = painted(image, ventricles, TISSUES["ventricle"][place])
    return painted(image, oedema, TISSUES["oedema"][place])
