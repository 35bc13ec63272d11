"""A hippocampus in its temporal lobe. With decline it is thin, pale and ringed by CSF, and the score is high."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ellipse, grid, mask, noise, painted, spline, tube, turned
from polyward_deploy.recipes.patients import Label, Patient, View

HIGHEST = 40.0  # points of the worst score


def draw(generator: np.random.Generator, size: tuple[int, ...], *, decline: float = 0.5) -> Patient:
    """One crop [1, right, front, top] with `hippocampus` and `score`; `decline` (0..1): mean loss of the cohort."""
    loss = float(np.clip(generator.normal(decline, 0.25), 0, 1))
    axes = turned(
        grid(size),
        shift=tuple(float(s) for s in generator.uniform(-0.1, 0.1, 3)),
        angle=float(generator.normal(0, 0.12)),
    )
    head = float(generator.uniform(0.33, 0.37)) * (1 - 0.45 * loss)
    stations = np.asarray([(0.0, 0.65, -0.25), (0.12, 0.2, -0.1), (0.05, -0.25, 0.05), (-0.1, -0.7, 0.3)])
    curve = spline(list(stations + generator.normal(0, 0.03, stations.shape)), 12)
    radii = np.linspace(head, 0.55 * head, len(curve))
    body = tube(axes, curve, radii)
    anterior = body * (axes[1] > 0.1)
    posterior = body * (axes[1] <= 0.1)
    image = np.asarray(0.42 + 0.04 * noise(generator, size, 4.0), np.float32)
    image = painted(image, _white_matter(axes), 0.72 + 0.02 * noise(generator, size, 2.0))
    image = painted(
        image, tube(axes, curve + np.asarray((0.0, 0.0, 0.06)), radii + 0.06 + 0.16 * loss), 0.1
    )  # CSF fills the room
    image = painted(image, body, 0.6 - 0.12 * loss + 0.03 * noise(generator, size, 1.5))
    points = float(np.clip(4 + 30 * loss + generator.normal(0, 2), 0, HIGHEST))
    labels: dict[str, Label] = {"hippocampus": mask(anterior, posterior), "score": f"{points:.1f}"}
    return Patient(views=(View(image=np.asarray(image[None], np.float32), labels=labels),), illness=loss)


def _white_matter(axes: list[Values]) -> Values:
    """A plate above and one below."""
    above = ellipse(axes, (0.0, 0.0, 1.05), (1.4, 1.4, 0.4))
    return np.maximum(above, ellipse(axes, (0.3, 0.0, -1.05), (1.4, 1.4, 0.35)))
