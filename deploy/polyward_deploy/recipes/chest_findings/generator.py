"""A frontal chest radiograph. A wide heart, fluid below, a patch or a nodule; readers are unsure of what is faint."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, ellipse, grid, mask, noise, painted, spline, tube
from polyward_deploy.recipes.patients import Label, Patient, View

UNSURE = 0.12  # half width of the band, in units of a finding's extent, in which a reader writes -1
BLANK = 0.08  # share of the findings that a report does not mention
WIDE = 0.5  # cardiothoracic ratio from which a heart is too wide


def draw(generator: np.random.Generator, size: tuple[int, ...], *, ill: float = 0.4) -> Patient:
    """One image [1, height, width] with `findings`, `anatomy` and `nodules`; `ill`: the share with each finding."""
    present = generator.random(3) < ill
    extent = np.clip(np.where(present, generator.normal(0.75, 0.2, 3), generator.normal(0.1, 0.15, 3)), 0, 1.2)
    width = WIDE + 0.24 * (float(extent[0]) - 0.45)  # cardiothoracic ratio
    nodules = int(generator.integers(1, 3)) if generator.random() < ill else 0
    axes = grid(size)
    left, right = (_lung(axes, side, generator) for side in (-1, 1))
    lungs = np.maximum(left, right)
    heart = ellipse(axes, (0.25, 0.12), (0.36, 0.8 * width))
    image = _chest(axes, lungs, heart, generator)
    side = -1 if generator.random() < 0.5 else 1
    fluid = np.clip((axes[0] - (0.75 - 0.55 * extent[1])) * 12, 0, 1) * (left if side < 0 else right)
    image = painted(image, 0.9 * fluid * (extent[1] > UNSURE), 0.62)
    patch = bumpy(axes, (generator.uniform(-0.4, 0.1), -side * 0.5), 0.1 + 0.16 * extent[2], 0.9, generator) * lungs
    image = image + np.float32(0.3 * min(extent[2], 1.0)) * patch * (0.8 + 0.2 * noise(generator, size, 1.0))
    boxes = []
    for _ in range(nodules):
        place = (float(generator.uniform(-0.55, 0.15)), float(generator.choice((-1, 1)) * generator.uniform(0.4, 0.6)))
        radius = float(generator.uniform(0.07, 0.12))
        image = painted(image, 0.85 * ball(axes, place, radius), 0.85)
        boxes.append(_box(place, radius, size))
    names = ("cardiomegaly", "effusion", "consolidation")
    findings = {name: _read(float(amount), generator) for name, amount in zip(names, extent, strict=True)}
    labels: dict[str, Label] = {
        "findings": findings,
        "anatomy": mask(lungs, heart),
        "nodules": "; ".join(boxes) or "none",
    }
    return Patient(views=(View(image=np.asarray(image[None], np.float32), labels=labels),), illness=float(extent.sum()))


def _lung(axes: list[Values], side: int, generator: np.random.Generator) -> Values:
    top, wide = float(generator.uniform(0.66, 0.74)), float(generator.uniform(0.3, 0.35))
    base = np.clip((0.78 - axes[0]) * 16, 0, 1)
    return np.asarray(ellipse(axes, (-0.02, side * 0.48), (top, wide)) * base, np.float32)


def _chest(axes: list[Values], lungs: Values, heart: Values, generator: np.random.Generator) -> Values:
    size = axes[0].shape
    image = np.full(size, 0.06, np.float32)
    image = painted(image, ellipse(axes, (0.25, 0.0), (1.35, 0.97)), 0.5 + 0.02 * noise(generator, size, 3.0))
    image = painted(image, lungs, 0.2 + 0.02 * noise(generator, size, 1.5))
    for height in np.linspace(-0.6, 0.6, 6):
        for side in (-1, 1):
            rib = spline([(height - 0.1, side * 0.12), (height - 0.12, side * 0.5), (height + 0.12, side * 0.84)], 5)
            image = image + np.float32(0.08) * tube(axes, rib, 0.025)
    image = painted(image, 0.8 * tube(axes, spline([(-1.0, 0.0), (1.0, 0.0)], 2), 0.12), 0.66)
    return painted(image, 0.9 * heart, 0.62)


def _read(extent: float, generator: np.random.Generator) -> str:
    """What a report says: 1, 0, -1 for uncertain, or nothing."""
    if generator.random() < BLANK:
        return ""
    return "-1" if abs(extent - 0.45) < UNSURE else str(int(extent > 0.45))


def _box(place: tuple[float, float], radius: float, size: tuple[int, ...]) -> str:
    """Pixel borders `x0 y0 x1 y1 class`."""
    low, high = (
        [min(max((p + sign * radius + 1) / 2, 0), 1) * side for p, side in zip(place, size, strict=True)]
        for sign in (-1, 1)
    )
    return f"{low[1]:.1f} {low[0]:.1f} {high[1]:.1f} {high[0]:.1f} nodule"
