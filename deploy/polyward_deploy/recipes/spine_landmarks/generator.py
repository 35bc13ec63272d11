"""Five lumbar vertebrae on T2-weighted MR. A fractured body is flat; a worn disc is dark and thin."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from polyward_deploy.recipes.drawing import Values, grid, mask, noise, painted, spline, tube
from polyward_deploy.recipes.patients import Label, Patient, View

LEVELS = 5  # L1 at the top
HEIGHT_LOST = (0.0, 0.22, 0.34, 0.5)  # by Genant's grade: 20-25 %, 25-40 %, more
BRIGHT = (0.95, 0.8, 0.6, 0.42, 0.25)  # a disc's nucleus by Pfirrmann's grade, 1 to 5
PITCH = 0.37  # from one vertebra to the next
CUT_OFF = 0.1  # share of the images that do not reach L5's middle, which is then not marked


def draw(
    generator: np.random.Generator, size: tuple[int, ...], *, fractured: float = 0.5, worn: float = 0.5
) -> Patient:
    """One volume [1, x, y, z] with `structures`, `bodies`, `fracture` (Genant 0-3) and `disc` (Pfirrmann 1-5).

    `fractured` is the share with a fracture, `worn` (0 to 1) the mean wear of the worst disc.
    """
    grade = int(generator.integers(1, 4)) if generator.random() < fractured else 0
    wear = float(np.clip(generator.normal(worn, 0.28), 0, 0.999))
    worst = int(5 * wear)
    broken, thin = int(generator.integers(LEVELS)), int(generator.integers(LEVELS - 1))
    bend = float(generator.uniform(0.08, 0.2))
    top = 0.74 + float(generator.uniform(-0.05, 0.05))
    places = [(0.0, _curve(top - PITCH * level, bend), top - PITCH * level) for level in range(LEVELS)]
    axes = grid(size)
    bodies, discs = np.zeros(size, np.float32), np.zeros(size, np.float32)
    image = np.asarray(0.28 + 0.03 * noise(generator, size, 3.0), np.float32)
    for level, place in enumerate(places):
        lost = HEIGHT_LOST[grade] if level == broken else 0.03
        body = _block(axes, place, (0.72, 0.36, 0.135 * (1 - lost)))
        image = painted(image, body, 0.5 + 0.03 * noise(generator, size, 1.0))
        bodies = np.maximum(bodies, body)
    for level, (above, below) in enumerate(pairwise(places)):
        wears = worst if level == thin else int(worst * generator.random())
        middle = tuple((a + b) / 2 for a, b in zip(above, below, strict=True))
        disc = _block(axes, middle, (0.66, 0.34, 0.052 * (1 - 0.08 * wears))) * (1 - bodies)
        image = painted(image, disc, BRIGHT[wears])
        discs = np.maximum(discs, disc)
    canal = tube(axes, spline([(0.0, _curve(z, bend) - 0.56, z) for z in np.linspace(1, -1, 6)], 16), 0.13)
    canal = canal * (1 - bodies) * (1 - discs)
    image = painted(image, canal, 0.9)
    seen = LEVELS - int(generator.random() < CUT_OFF)
    cells = [_cell(place, size) if level < seen else "-" for level, place in enumerate(places)]
    labels: dict[str, Label] = {
        "structures": mask(bodies, discs, canal),
        "bodies": "; ".join(cells),
        "fracture": str(grade),
        "disc": str(worst + 1),
    }
    return Patient(views=(View(image=np.asarray(image[None], np.float32), labels=labels),), illness=grade + 3 * wear)


def _curve(height: float, bend: float) -> float:
    """How far to the front the spine lies: lordosis."""
    return 0.12 + bend * float(np.cos(1.6 * (height + 0.2)))


def _block(axes: list[Values], place: tuple[float, ...], semi: tuple[float, ...]) -> Values:
    """A box with rounded corners: a superellipsoid of power 4."""
    far = sum(((axis - np.float32(p)) / np.float32(s)) ** 4 for axis, p, s in zip(axes, place, semi, strict=True))
    inside: NDArray[np.float32] = np.clip((1 - far**0.25) * min(semi) * max(axes[0].shape) / 2 + 0.5, 0, 1)
    return np.asarray(inside, np.float32)


def _cell(place: tuple[float, ...], size: tuple[int, ...]) -> str:
    """`x y z` of a volume, in the order of its axes."""
    return " ".join(f"{(p + 1) / 2 * side - 0.5:.1f}" for p, side in zip(place, size, strict=True))
