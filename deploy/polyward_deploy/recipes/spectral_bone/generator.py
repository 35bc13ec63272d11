"""A vertebra on spectral CT. An island: compact bone, even, no iodine. A metastasis: uneven, with iodine around it."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, ellipse, grid, mask, noise, painted, turned
from polyward_deploy.recipes.patients import Label, Patient, View

ENERGIES = range(40, 150, 10)  # keV


def draw(
    generator: np.random.Generator, size: tuple[int, ...], *, metastases: float = 0.5, recorded: float = 1.0
) -> Patient:
    """One slice [14, height, width] with `lesion` and `metastasis`, and age and sex where they were recorded.

    Channels: conventional, monoenergetic 40 to 140 keV, effective atomic number, iodine. `metastases` and `recorded`
    are shares of the patients.
    """
    ill = bool(generator.random() < metastases)
    rough = float(np.clip(generator.normal(0.8 if ill else 0.2, 0.12), 0, 1))
    radius = float(generator.uniform(0.16, 0.24) if ill else generator.uniform(0.12, 0.19))
    axes = turned(grid(size), angle=float(generator.normal(0, 0.1)))
    body = ellipse(axes, (0.0, 0.0), (0.88, 0.95))
    shell = ellipse(axes, (-0.1, 0.0), (0.5, 0.62))
    inside = ellipse(axes, (-0.1, 0.0), (0.43, 0.55))
    canal = ellipse(axes, (0.55, 0.0), (0.16, 0.2))
    away, turn = 0.22 * float(generator.random()), float(generator.uniform(0, 2 * np.pi))
    centre = (-0.1 + away * np.sin(turn), 1.2 * away * np.cos(turn))
    lesion = bumpy(axes, centre, radius, rough, generator) * inside
    uptake = (lesion if ill else np.zeros_like(lesion)) * np.float32(generator.uniform(0.6, 0.9))
    grain = 1 - (0.3 if ill else 0.03) * np.abs(noise(generator, size, 1.2))  # of the lesion
    marrow = 0.45 + 0.08 * noise(generator, size, 1.5)
    calcium = painted(painted(np.zeros_like(body), shell, 0.9), inside, marrow)
    calcium = painted(calcium, lesion, np.asarray(0.95 * grain, np.float32))
    blood = ball(axes, (-0.72, 0.25), 0.14)  # a vessel in front
    iodine = np.maximum(blood * np.float32(0.9), uptake)
    image = _channels(body, calcium * (1 - canal), iodine, generator)
    known = bool(generator.random() < recorded)
    age = float(np.clip(generator.normal(68 if ill else 54, 9), 20, 95))
    columns = {"age": f"{age:.0f}", "sex": str(generator.choice(("F", "M")))}
    labels: dict[str, Label] = {"lesion": mask(lesion), "metastasis": str(int(ill))}
    view = View(image=image, labels=labels, columns=columns if known else {})
    return Patient(views=(view,), illness=rough)


def _channels(body: Values, calcium: Values, iodine: Values, generator: np.random.Generator) -> Values:
    """Water, calcium and iodine as each channel sees them; the last two fade as the energy rises."""
    size = body.shape
    water = body * (0.22 + 0.015 * noise(generator, size, 2.0))
    mono = []
    for energy in ENERGIES:
        fade = (40 / energy) ** 1.2
        mono.append(water + (0.25 + 0.4 * fade) * calcium + 0.35 * fade * iodine)
    conventional = water + 0.5 * calcium + 0.15 * iodine
    number = body * 0.3 + 0.5 * calcium + 0.2 * iodine
    traces = 0.04 * body * np.abs(noise(generator, size, 1.0)) + 0.85 * iodine
    return np.asarray(np.stack([conventional, *mono, number, traces]).clip(0, 1), np.float32)
