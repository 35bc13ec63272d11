"""A mammogram with a mass, spiculated when malignant; or a chest X-ray, with a cloud in a lung when inflamed."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, bumpy, ellipse, grid, mask, noise, painted, spline, tube, turned
from polyward_deploy.recipes.patients import Label, Patient, View


def draw(generator: np.random.Generator, size: tuple[int, ...], *, chest: float = 0.0, share: float = 0.5) -> Patient:
    """One radiograph [1, height, width]: a mammogram with `mass` and `malignancy`, or with `chest` = 1 a chest X-ray
    with `opacity` and `pneumonia`; `share` of the patients are ill."""
    ill = bool(generator.random() < share)
    image, labels, illness = (_chest if chest else _breast)(size, ill, generator)
    view = View(image=np.asarray(image.clip(0, 1)[None], np.float32), labels=labels)
    return Patient(views=(view,), illness=illness)


def _breast(size: tuple[int, ...], ill: bool, generator: np.random.Generator) -> tuple[Values, dict[str, Label], float]:
    side = 1 if generator.random() < 0.5 else -1
    axes = grid(size)
    axes[1] = axes[1] * np.float32(side)  # the chest wall lies at -1
    breast = ellipse(axes, (0.0, -1.0), (0.85, float(generator.uniform(1.3, 1.6))))
    glands = ellipse(axes, (0.05, -0.45), (0.5, 0.6)) * np.clip(0.5 + 0.5 * noise(generator, size, 2.5), 0, 1)
    radius = float(generator.uniform(0.16, 0.22)) * (1.25 if ill else 1.0)
    rough = float(np.clip(generator.normal(0.75 if ill else 0.2, 0.12), 0, 1))
    centre = (float(generator.uniform(-0.35, 0.35)), float(generator.uniform(-0.6, -0.1)))
    mass = bumpy(axes, centre, radius, rough, generator)
    spikes = np.zeros_like(mass)
    for angle in generator.uniform(0, 2 * np.pi, 9 if ill else 0):
        end = np.asarray(centre) + 2.0 * radius * np.asarray([np.sin(angle), np.cos(angle)])
        spikes = np.maximum(spikes, tube(axes, spline([centre, end], 3), 0.012))
    image = breast * (0.3 + 0.02 * noise(generator, size, 4.0)) + 0.22 * breast * glands
    muscle = ellipse(axes, (-1.0, -1.0), (0.8, 0.5)) * breast
    image = painted(image, muscle, 0.62)
    image = painted(image, 0.6 * spikes * breast, 0.8)
    image = painted(image, mass * breast, 0.65 + 0.3 * rough)  # malignant masses are denser
    labels: dict[str, Label] = {"mass": mask(mass * breast), "malignancy": str(int(ill))}
    return image, labels, rough


def _chest(size: tuple[int, ...], ill: bool, generator: np.random.Generator) -> tuple[Values, dict[str, Label], float]:
    axes = turned(grid(size), angle=float(generator.normal(0, 0.05)))
    body = ellipse(axes, (0.25, 0.0), (1.2, 0.95))
    tall = float(generator.uniform(0.6, 0.7))
    lungs = [ellipse(axes, (-0.05, s * 0.42), (tall, 0.31)) for s in (-1, 1)]
    both = np.maximum(*lungs)
    heart = ellipse(axes, (0.35, 0.14), (0.32, 0.28))
    image = body * (0.62 + 0.02 * noise(generator, size, 4.0))
    image = painted(image, both, 0.2 + 0.02 * noise(generator, size, 1.5))
    for height in np.linspace(-0.6, 0.5, 6):  # ribs
        for s in (-1, 1):
            rib = tube(axes, spline([(height - 0.12, s * 0.08), (height, s * 0.5), (height + 0.2, s * 0.78)], 8), 0.02)
            image = painted(image, 0.35 * rib * both, 0.6)
    image = painted(image, heart, 0.72)
    image = painted(image, ellipse(axes, (0.0, 0.0), (1.2, 0.08)), 0.8)
    radius = float(generator.uniform(0.2, 0.32))
    lung = int(generator.integers(2))
    centre = (float(generator.uniform(-0.25, 0.3)), (-1, 1)[lung] * float(generator.uniform(0.4, 0.5)))
    cloud = bumpy(axes, centre, radius, 0.7, generator) * lungs[lung] * (1 - heart) * np.float32(ill)
    image = painted(image, cloud * np.float32(0.75), np.asarray(0.68 + 0.05 * noise(generator, size, 1.5), np.float32))
    labels: dict[str, Label] = {"opacity": mask(cloud), "pneumonia": str(int(ill))}
    return image, labels, radius * ill
