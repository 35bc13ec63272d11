"""A jaw as a panoramic slice shows it. Age lengthens roots, closes pulp chambers and brings molars; sex shapes bone."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, ellipse, grid, noise, painted, spline, tube, turned
from polyward_deploy.recipes.patients import Patient, View

TEETH = 8  # of one side of a jaw; the last is the wisdom tooth
YOUNGEST, OLDEST = 7.0, 23.0
ERUPTION = (6.0, 6.5, 9.5, 10.0, 10.5, 6.0, 12.0, 18.0)  # years, from the middle outwards


def draw(
    generator: np.random.Generator,
    size: tuple[int, ...],
    *,
    male: float = 0.5,
    youngest: float = YOUNGEST,
    oldest: float = OLDEST,
) -> Patient:
    """One image [1, height, width] with `age` in years and `sex` (1: male); `male` is the share of men."""
    age = float(generator.uniform(youngest, oldest))
    sex = int(generator.random() < male)
    shift = tuple(float(s) for s in generator.normal(0, 0.03, 2))
    axes = turned(grid(size), shift=shift, angle=float(generator.normal(0, 0.04)))
    image = _jaw(axes, age, sex, generator)
    image = image + np.float32(0.02) * noise(generator, size, 0.8)
    labels = {"age": f"{age:.2f}", "sex": str(sex)}
    return Patient(views=(View(image=np.asarray(image[None], np.float32), labels=labels),), illness=age)


def _jaw(axes: list[Values], age: float, sex: int, generator: np.random.Generator) -> Values:
    """Men's jaws are deeper, with steeper rami; both grow until the end of puberty."""
    grown = np.clip((age - 6) / 12, 0, 1)
    depth = 0.16 + 0.05 * grown + 0.09 * sex * (0.4 + 0.6 * grown) + generator.normal(0, 0.01)
    reach = 0.72 + 0.08 * grown
    flare = 0.16 - 0.09 * sex + generator.normal(0, 0.015)
    image = np.full(axes[0].shape, 0.08, np.float32)
    body = spline([(0.1, -reach), (0.55, -0.45), (0.62, 0.0), (0.55, 0.45), (0.1, reach)])
    image = painted(image, tube(axes, body, depth), 0.42)
    for side in (-1, 1):
        ramus = spline([(0.15, side * reach), (-0.6, side * (reach + flare))], 6)
        image = painted(image, tube(axes, ramus, 0.6 * depth), 0.42)
    for upper in (True, False):
        for side in (-1, 1):
            for place in range(TEETH):
                image = _tooth(image, axes, place, side, upper, age, generator)
    return image


def _tooth(
    image: Values, axes: list[Values], place: int, side: int, upper: bool, age: float, generator: np.random.Generator
) -> Values:
    """A crown, a root that grows for six years around eruption, and a pulp chamber that narrows with age."""
    formed = float(np.clip((age - ERUPTION[place] + 4 + generator.normal(0, 0.3)) / 6, 0, 1))
    if formed <= 0.05:
        return image
    x = side * (0.05 + 0.088 * place)
    away = -1 if upper else 1  # from the bite plane
    bite = 0.08 + 0.1 * (1 - (place / TEETH) ** 2)
    buried = 0.12 * (1 - min(1.0, 2 * formed))
    root = 0.1 + 0.28 * formed
    crown = bite + away * (0.1 + buried)
    middle = crown + away * root / 2
    image = painted(image, ellipse(axes, (middle, x), (root / 2 + 0.06, 0.034)), 0.68)
    image = painted(image, ball(axes, (crown, x), 0.05), 0.95)
    pulp = 0.026 * (1 - 0.75 * np.clip((age - 8) / 15, 0, 1))
    return painted(image, ellipse(axes, (middle, x), (root / 2, pulp)), 0.3)
