"""An upper abdomen on CT. A large liver tumour, a worse liver and old age shorten survival in this generated world."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, ellipse, grid, mask, noise, painted, spline, tube
from polyward_deploy.recipes.patients import Label, Patient, View

FOLLOWED = (10.0, 60.0)  # months until a patient who lives is lost from sight
SHAPE = 2.5  # of Weibull's distribution: above 1, times gather round the one that the risk gives


def draw(generator: np.random.Generator, size: tuple[int, ...], *, advanced: float = 0.5) -> Patient:
    """One volume [1, x, y, z] with `organs` and `outcome` in months, and age, Child-Pugh class and AFP beside it.

    `advanced` (0 to 1) is the mean extent of the tumours.
    """
    extent = float(np.clip(generator.normal(advanced, 0.25), 0, 1))
    age = float(np.clip(generator.normal(62, 9), 35, 85))
    reserve = int(generator.random() < 0.3)  # 0: Child-Pugh A, 1: B
    marker = float(np.clip(generator.normal(1 + 2 * extent, 0.6), 0, 5))  # log10 of AFP in ng/ml
    image, labels = _abdomen(grid(size), 0.17 + 0.16 * extent, generator)
    rate = np.exp(2.2 * extent + 0.7 * reserve + 0.03 * (age - 62) - 1.4) / 24
    time, lost = float(generator.weibull(SHAPE) / rate), float(generator.uniform(*FOLLOWED))
    outcome = {"outcome": f"{min(time, lost):.1f}", "outcome_event": str(int(time <= lost))}
    view = View(
        image=np.asarray(image[None], np.float32),
        labels={"organs": labels, "outcome": outcome},
        columns={"age": f"{age:.0f}", "child_pugh": "AB"[reserve], "log_afp": f"{marker:.2f}"},
    )
    return Patient(views=(view,), illness=extent)


def _abdomen(axes: list[Values], radius: float, generator: np.random.Generator) -> tuple[Values, Label]:
    """Axes run to the right, to the front and to the head."""
    size = axes[0].shape
    move = generator.uniform(-0.05, 0.05, 3)
    middle = np.array((0.4, 0.1, 0.25)) + move
    body = ellipse(axes, (0.0, 0.0, 0.0), (0.95, 0.78, 2.5))
    liver = ellipse(axes, middle, (0.42, 0.5, 0.5)) * body
    spleen = ellipse(axes, np.array((-0.6, -0.25, 0.3)) + move, (0.2, 0.28, 0.36)) * body
    kidneys = np.maximum(
        *(ellipse(axes, np.array((s * 0.42, -0.42, -0.45)) + move, (0.17, 0.19, 0.36)) for s in (-1, 1))
    )
    kidneys = kidneys * (1 - liver) * (1 - spleen)
    place = middle + generator.uniform(-0.15, 0.15, 3)
    tumour = bumpy(axes, place, radius, 0.3, generator) * liver
    image = np.full(size, 0.02, np.float32)
    image = painted(image, body, 0.3 + 0.02 * noise(generator, size, 2.0))
    image = painted(image, tube(axes, spline([(0.0, -0.5, -1.0), (0.0, -0.5, 1.0)], 2), 0.15), 0.95)  # spine
    image = painted(image, tube(axes, spline([(-0.05, -0.2, -1.0), (-0.05, -0.2, 1.0)], 2), 0.08), 0.85)  # aorta
    image = painted(image, ball(axes, (-0.35, 0.4, 0.2), 0.24), 0.12)  # air in the stomach
    image = painted(image, liver, 0.58 + 0.02 * noise(generator, size, 1.5))
    image = painted(image, spleen, 0.68 + 0.02 * noise(generator, size, 1.5))
    image = painted(image, kidneys, 0.8 + 0.02 * noise(generator, size, 1.0))
    image = painted(image, tumour, 0.4 + 0.04 * noise(generator, size, 1.0))
    return image, mask(liver, tumour, spleen, kidneys)
