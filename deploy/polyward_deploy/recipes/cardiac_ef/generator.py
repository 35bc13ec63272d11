"""A short-axis stack of the heart at its fullest and at its emptiest. Diseases change cavity, wall and ejection."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ellipse, grid, mask, noise, painted
from polyward_deploy.recipes.patients import Label, Patient, View

# Cavity radius, wall thickness, ejection fraction in %, right ventricle's scale: means of ACDC's five groups, invented.
GROUPS = {
    "NOR": (0.34, 0.12, 60.0, 1.0),
    "MINF": (0.38, 0.11, 36.0, 1.0),
    "DCM": (0.46, 0.1, 22.0, 1.0),
    "HCM": (0.29, 0.22, 68.0, 0.95),
    "RV": (0.33, 0.12, 56.0, 1.4),
}
LENGTH = 1.05  # half the long axis


def draw(generator: np.random.Generator, size: tuple[int, ...], *, failing: float = 0.4) -> Patient:
    """One volume [2, x, y, z] (end of diastole, of systole) with `diastole`, `systole`, `ef` and `pathology`.

    `failing` is the share of infarcted and dilated hearts.
    """
    share = np.array([1 - failing, 1.5 * failing, 1.5 * failing, 1 - failing, 1 - failing])
    group = str(generator.choice(list(GROUPS), p=share / share.sum()))
    radius, wall, ejected, scale = GROUPS[group]
    radius, wall = float(generator.normal(radius, 0.015)), float(generator.normal(wall, 0.008))
    ef = float(np.clip(generator.normal(ejected, 4), 10, 78))
    emptied = radius * float(np.sqrt(1 - ef / 100))  # the long axis stays, so volume goes with the square
    outer = float(np.sqrt(emptied**2 + (radius + wall) ** 2 - radius**2))  # the wall keeps its volume
    shift = generator.uniform(-0.06, 0.06, 2)
    axes = grid(size)
    body = _body(axes, generator)
    frames, masks = [], []
    for inner, whole, right in ((radius, radius + wall, scale), (emptied, outer, 0.8 * scale)):
        image, labels = _frame(axes, body, shift, inner, whole, right, generator)
        frames.append(image)
        masks.append(labels)
    labels_by_task: dict[str, Label] = {
        "diastole": masks[0],
        "systole": masks[1],
        "ef": f"{ef:.1f}",
        "pathology": group,
    }
    return Patient(views=(View(image=np.stack(frames).astype(np.float32), labels=labels_by_task),), illness=-ef)


def _body(axes: list[Values], generator: np.random.Generator) -> Values:
    size = axes[0].shape
    image = np.asarray(0.32 + 0.03 * noise(generator, size, 3.0), np.float32)
    return painted(image, ellipse(axes, (0.75, 0.25, 0.0), (0.35, 0.7, 2.0)), 0.1)  # lung


def _frame(
    axes: list[Values],
    body: Values,
    shift: np.ndarray[tuple[int], np.dtype[np.float64]],
    inner: float,
    outer: float,
    scale: float,
    generator: np.random.Generator,
) -> tuple[Values, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """One moment: the image, and the mask of right ventricle, myocardium and left ventricle."""
    size = axes[0].shape
    place = (0.15 + float(shift[0]), float(shift[1]), 0.0)
    beside = (place[0] - 0.4, place[1] - 0.08, 0.0)
    left = ellipse(axes, place, (inner, inner, LENGTH))
    wall = ellipse(axes, place, (outer, outer, LENGTH + 0.1))
    right = ellipse(axes, beside, (0.28 * scale, 0.36 * scale, LENGTH - 0.1)) * (1 - wall)
    image = painted(body, right, 0.78 + 0.03 * noise(generator, size, 1.5))
    image = painted(image, wall, 0.42 + 0.02 * noise(generator, size, 1.5))
    image = painted(image, left, 0.82 + 0.03 * noise(generator, size, 1.5))
    return image, mask(right, wall, left)
