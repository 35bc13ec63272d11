"""Fragments of stained tissue on white glass: benign with round pale glands, malignant with dense dark fields."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, coloured, grid, mask, noise
from polyward_deploy.recipes.patients import Label, Patient, View

GLASS, EOSIN, GLAND, NUCLEI = (0.93, 0.92, 0.94), (0.86, 0.56, 0.7), (0.95, 0.84, 0.9), (0.4, 0.22, 0.5)


def draw(
    generator: np.random.Generator, size: tuple[int, ...], *, malignancy: float = 0.6, stain: float = 1.0
) -> Patient:
    """One thumbnail [3, height, width] with `tissue` and `malignant`; `stain` is its strength.

    The branch that draws the image again learns from the image itself.
    """
    ill = bool(generator.random() < malignancy)
    cells = float(np.clip(generator.normal(0.75 if ill else 0.15, 0.12), 0, 1))  # how much of the tissue is dense
    axes = grid(size)
    axes[-1] = axes[-1] * np.float32(size[-1] / size[-2])  # circles stay round on a long slide
    reach = size[-1] / size[-2]
    tissue = np.zeros(size, np.float32)
    dense, glands = tissue.copy(), tissue.copy()
    count = int(generator.integers(1, 4))
    for place in range(count):
        middle = ((place + 0.5) / count * 2 - 1) * 0.85 * reach
        centre = (float(generator.uniform(-0.2, 0.2)), middle + float(generator.uniform(-0.1, 0.1)))
        radius = float(generator.uniform(0.45, 0.65))
        fragment = bumpy(axes, centre, radius, 0.7, generator)
        tissue = np.maximum(tissue, fragment)
        for _ in range(5):
            where = (
                centre[0] + radius * generator.uniform(-0.6, 0.6),
                centre[1] + radius * generator.uniform(-0.6, 0.6),
            )
            if generator.random() < cells:
                dense = np.maximum(dense, bumpy(axes, where, 0.3 * radius, 1.0, generator) * fragment)
            else:
                glands = np.maximum(glands, ball(axes, where, 0.17 * radius) * fragment)
    image = _stained(tissue, glands, dense, stain, generator)
    labels: dict[str, Label] = {"tissue": mask(tissue), "malignant": str(int(ill))}
    return Patient(views=(View(image=image, labels=labels),), illness=cells)


def _stained(tissue: Values, glands: Values, dense: Values, stain: float, generator: np.random.Generator) -> Values:
    size = tissue.shape
    grain = 1 + 0.05 * noise(generator, size, 0.7)
    image = coloured(np.ones(size, np.float32), GLASS)
    for region, colour in ((tissue, EOSIN), (glands, GLAND), (dense, NUCLEI)):
        dye = [1 - stain * (1 - share) for share in colour]  # a weak stain is nearer to white
        image = image * (1 - region) + coloured(region * grain, dye)
    return np.asarray(image.clip(0, 1), np.float32)
