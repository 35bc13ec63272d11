"""A fundus in diabetes. More and other lesions with the grade; exudates near the macula make it oedema."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, coloured, ellipse, grid, mask, noise, tree, tube
from polyward_deploy.recipes.patients import Label, Patient, View

RETINA, DISC, VESSEL = (0.78, 0.38, 0.17), (0.98, 0.82, 0.5), (0.52, 0.14, 0.09)
# Microaneurysms, haemorrhages, hard and soft exudates: radius (larger than life), colour, mean number by grade 0 to 4.
LESIONS = (
    (0.035, (0.45, 0.03, 0.05), (0, 4, 7, 9, 10)),
    (0.085, (0.32, 0.03, 0.04), (0, 0, 3, 6, 7)),
    (0.055, (1.0, 0.92, 0.4), (0, 0, 4, 6, 6)),
    (0.1, (0.93, 0.88, 0.78), (0, 0, 1, 3, 3)),
)
EXUDATES, GRADES = 2, 5
NEAR = 0.34  # distance from the macula within which an exudate counts for the highest risk


def draw(generator: np.random.Generator, size: tuple[int, ...], *, severity: float = 2.0) -> Patient:
    """One photograph [3, height, width] with `grade`, `dme` and `lesions`; `severity`: the grades' mean."""
    level = float(np.clip(generator.normal(severity, 1.3), -0.45, GRADES - 0.55))
    grade = round(max(level, 0.0))
    side = 1 if generator.random() < 0.5 else -1
    disc, macula = (0.0, side * 0.5), (0.05, -side * 0.15)
    axes = grid(size)
    image = _fundus(axes, disc, side, generator)
    dark = np.exp(-sum(np.square(axis - np.float32(c)) for axis, c in zip(axes, macula, strict=True)) / 0.02)
    image = np.asarray(image * (1 - np.float32(0.4) * dark), np.float32)
    central = bool(generator.random() < 0.5)  # whether exudates come near the macula
    nearest, regions = 9.0, []
    for kind, (radius, colour, numbers) in enumerate(LESIONS):
        region = np.zeros(size, np.float32)
        for _ in range(int(generator.poisson(numbers[grade]))):
            place = _place(macula, central and kind == EXUDATES, generator)
            region = np.maximum(region, bumpy(axes, place, radius * generator.uniform(0.8, 1.2), 0.3, generator))
            if kind == EXUDATES:
                nearest = min(nearest, float(np.hypot(*(place - np.asarray(macula)))))
        image = _over(image, region, colour)
        regions.append(region)
    if grade == GRADES - 1:
        image = _new_vessels(image, axes, disc, generator)
    risk = 0 if nearest > 8 else 2 if nearest < NEAR else 1
    labels: dict[str, Label] = {"grade": str(grade), "dme": str(risk), "lesions": mask(*regions)}
    return Patient(views=(View(image=np.asarray(image.clip(0, 1), np.float32), labels=labels),), illness=level)


def _fundus(axes: list[Values], disc: tuple[float, float], side: int, generator: np.random.Generator) -> Values:
    size = axes[0].shape
    field = ball(axes, (0.0, 0.0), 0.97)
    image = coloured(np.asarray(1 + 0.05 * noise(generator, size, 4.0), np.float32), RETINA) * field
    image = _over(image, ellipse(axes, disc, (0.17, 0.15)), DISC)
    for up in (-1, 1):
        for curve, generation in tree(generator, disc, (up, -0.5 * side), length=0.5, depth=3):
            image = _over(image, 0.8 * tube(axes, curve, 0.03 / (1 + 0.6 * generation)) * field, VESSEL)
    return image


def _place(
    macula: tuple[float, float], central: bool, generator: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Near the macula, or anywhere on the retina but there."""
    turn = generator.uniform(0, 2 * np.pi)
    ray = np.array([np.sin(turn), np.cos(turn)])
    if central:
        return np.asarray(macula + ray * generator.uniform(0.1, NEAR))
    return np.asarray(macula + ray * generator.uniform(NEAR + 0.06, 0.75))


def _new_vessels(
    image: Values, axes: list[Values], disc: tuple[float, float], generator: np.random.Generator
) -> Values:
    for _ in range(5):
        for curve, _depth in tree(generator, disc, generator.normal(size=2), length=0.22, depth=2):
            image = _over(image, 0.8 * tube(axes, curve, 0.012), VESSEL)
    return image


def _over(image: Values, region: Values, colour: tuple[float, ...]) -> Values:
    return np.asarray(image * (1 - region) + coloured(region, colour), np.float32)
