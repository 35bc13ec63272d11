"""A glioma on four MR sequences. In this generated world IDH mutants enhance little and live longer."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, bumpy, ellipse, grid, mask, noise, turned
from polyward_deploy.recipes.patients import Label, Patient, View

# Brightness of brain, ventricles, oedema, enhancing tumour and necrosis on T1, T1 with contrast, T2 and FLAIR.
SEQUENCES = (
    (0.55, 0.2, 0.42, 0.45, 0.28),
    (0.5, 0.18, 0.4, 0.95, 0.22),
    (0.4, 0.95, 0.75, 0.62, 0.88),
    (0.42, 0.1, 0.9, 0.72, 0.4),
)
FOLLOWED = (200.0, 1800.0)  # days until a patient who lives is lost from sight
SHAPE = 2.5  # of Weibull's distribution: above 1, times gather round the one that the risk gives


def draw(generator: np.random.Generator, size: tuple[int, ...], *, mutated: float = 0.35) -> Patient:
    """One volume [4, x, y, z] with `tumour`, `idh` (1: mutated), `survival` in days, and the age beside it.

    `mutated` is the share of mutants.
    """
    mutation = bool(generator.random() < mutated)
    age = float(np.clip(generator.normal(42 if mutation else 60, 9), 18, 88))
    radius = float(generator.uniform(0.34, 0.5))
    ring = float(np.clip(generator.normal(0.62 if mutation else 0.9, 0.07), 0.35, 1.0))  # enhancing, share of radius
    dead = float(np.clip(generator.normal(0.4 if mutation else 0.65, 0.06), 0.2, 0.8))  # necrotic, share of that
    side = -1 if generator.random() < 0.5 else 1
    place = (side * float(generator.uniform(0.25, 0.4)), float(generator.uniform(-0.3, 0.3)), 0.1)
    axes = turned(grid(size), angle=float(generator.normal(0, 0.08)))
    brain = ellipse(axes, (0.0, 0.0, 0.0), (0.74, 0.9, 0.78))
    oedema = bumpy(axes, place, radius, 0.4, generator) * brain
    enhancing = bumpy(axes, place, ring * 0.8 * radius, 0.3, generator) * brain
    necrosis = bumpy(axes, place, dead * ring * 0.8 * radius, 0.3, generator) * brain
    image = _sequences(axes, brain, (oedema, enhancing, necrosis), generator)
    rate = np.exp(-1.3 * mutation + 0.03 * (age - 55) + 4 * (radius - 0.42)) / 450
    time, lost = float(generator.weibull(SHAPE) / rate), float(generator.uniform(*FOLLOWED))
    labels: dict[str, Label] = {
        "tumour": mask(oedema, enhancing, necrosis),
        "idh": str(int(mutation)),
        "survival": {"survival": f"{min(time, lost):.0f}", "survival_event": str(int(time <= lost))},
    }
    view = View(image=image, labels=labels, columns={"age": f"{age:.0f}"})
    return Patient(views=(view,), illness=float(ring + dead))


def _sequences(
    axes: list[Values], brain: Values, parts: tuple[Values, Values, Values], generator: np.random.Generator
) -> Values:
    size = axes[0].shape
    ventricles = np.maximum(*(ellipse(axes, (s * 0.13, 0.0, 0.15), (0.09, 0.4, 0.2)) for s in (-1, 1)))
    skull = ellipse(axes, (0.0, 0.0, 0.0), (0.82, 0.98, 0.86))
    channels = []
    for tissue, *others in SEQUENCES:
        image = skull * np.float32(0.12)
        image = image * (1 - brain) + (tissue + 0.03 * noise(generator, size, 2.0)) * brain
        for region, brightness in zip((ventricles, *parts), others, strict=True):
            image = image * (1 - region) + (brightness + 0.03 * noise(generator, size, 1.5)) * region
        channels.append(image)
    return np.stack(channels).clip(0, 1).astype(np.float32)
