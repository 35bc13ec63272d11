"""An aortic arch with three branches between two lungs; a spine as bright as the vessel lies behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyward_deploy.recipes.drawing import Values, ellipse, grid, mask, noise, painted, spline, tube, turned
from polyward_deploy.recipes.patients import Label, Patient, View


def draw(generator: np.random.Generator, size: tuple[int, ...], *, dilation: float = 0.5) -> Patient:
    """One volume [1, right, front, top] with `vessel` and `centreline`; `dilation` (0..1): mean width of the arch.

    Both labels are the mask of the same tubes: the centreline is computed where it is learnt.
    """
    width = float(np.clip(generator.normal(0.13 + 0.07 * dilation, 0.025), 0.11, 0.26))
    shift = tuple(float(s) for s in generator.uniform(-0.08, 0.08, 3))
    axes = turned(grid(size), shift=shift, angle=float(generator.normal(0, 0.12)))
    vessel = _arch(axes, width, generator)
    image = np.full(axes[0].shape, 0.05, np.float32)
    body = ellipse(axes, (0.0, 0.0, 0.0), (0.98, 0.85, 1.6))
    image = painted(image, body, 0.4 + 0.03 * noise(generator, size, 3.0))
    for side in (-1, 1):
        image = painted(image, ellipse(axes, (side * 0.6, 0.05, -0.1), (0.27, 0.55, 0.9)), 0.12)
    spine = tube(axes, spline([(0.0, -0.62, -1.2), (0.0, -0.68, 0.0), (0.0, -0.6, 1.2)], 6), 0.16)
    image = painted(image, spine, 0.8 + 0.06 * noise(generator, size, 1.5))
    image = painted(image, vessel, 0.85 + 0.03 * noise(generator, size, 2.0))
    labels: dict[str, Label] = {"vessel": mask(vessel), "centreline": mask(vessel)}
    return Patient(views=(View(image=np.asarray(image[None], np.float32), labels=labels),), illness=width)


def _arch(axes: list[Values], width: float, generator: np.random.Generator) -> Values:
    """Up in front, over the top, down at the back, with three branches to the neck."""
    top = float(generator.uniform(0.25, 0.45))
    stations = [(0.12, 0.45, -0.6), (0.14, 0.42, 0.0), (0.05, 0.1, top), (-0.08, -0.3, 0.0), (-0.06, -0.32, -1.1)]
    bends = generator.normal(0, 0.04, (len(stations), 3))
    curve = spline(list(np.asarray(stations) + bends), 20)
    found = tube(axes, curve, _tapered(width, len(curve)))
    for place, lean in ((7, 0.35), (9, 0.0), (11, -0.35)):
        root = curve[place]
        tip = root + np.asarray([-lean + generator.normal(0, 0.06), generator.normal(0, 0.06), 0.9])
        middle = (root + tip) / 2 + generator.normal(0, 0.06, 3)
        found = np.maximum(found, tube(axes, spline([root, middle, tip], 6), 0.5 * width + 0.03))
    return found


def _tapered(width: float, points: int) -> NDArray[np.float64]:
    """The radius along the arch: wide at the heart, narrower below."""
    return np.linspace(1.1 * width, 0.8 * width, points)
