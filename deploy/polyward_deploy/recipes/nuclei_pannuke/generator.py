"""A stained tile with five types of nuclei. Each tissue has its own mixture, background and arrangement."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, bumpy, ellipse, grid, mask, noise, turned
from polyward_deploy.recipes.patients import Label, Patient, View

# Half axes, colour, bumpiness; in the order of the study's classes.
TYPES = (
    ((0.15, 0.13), (0.42, 0.22, 0.55), 0.25),  # neoplastic: large, irregular
    ((0.075, 0.075), (0.2, 0.08, 0.4), 0.0),  # inflammatory: small, round, dark
    ((0.17, 0.05), (0.5, 0.3, 0.62), 0.0),  # connective: spindles
    ((0.075, 0.07), (0.78, 0.2, 0.42), 0.15),  # dead: shrunken, pink
    ((0.12, 0.1), (0.62, 0.48, 0.78), 0.0),  # epithelial: pale ovals
)
# The background's colour, and the share of each type; all invented.
TISSUES = {
    "Breast": ((0.95, 0.75, 0.85), (0.4, 0.1, 0.25, 0.05, 0.2)),
    "Colon": ((0.88, 0.72, 0.88), (0.2, 0.3, 0.1, 0.05, 0.35)),
    "Liver": ((0.9, 0.66, 0.68), (0.15, 0.1, 0.1, 0.1, 0.55)),
    "Skin": ((0.97, 0.84, 0.84), (0.2, 0.1, 0.5, 0.1, 0.1)),
}


def draw(generator: np.random.Generator, size: tuple[int, ...], *, cells: float = 22) -> Patient:
    """One tile [3, height, width] with `nuclei`, `tissue` and `cells`, their number; `cells`: its mean."""
    tissue = str(generator.choice(list(TISSUES)))
    colour, shares = TISSUES[tissue]
    count = int(np.clip(generator.poisson(cells), 4, 60))
    axes = grid(size)
    image = np.ones((3, *size), np.float32) * np.asarray(colour, np.float32)[:, None, None]
    image = image * (1 + 0.05 * noise(generator, size, 2.0))
    regions = [np.zeros(size, np.float32) for _ in TYPES]
    places: list[tuple[float, float]] = []
    for _ in range(count):
        place = _free(places, generator)
        kind = int(generator.choice(len(TYPES), p=shares))
        nucleus = _nucleus(axes, place, kind, generator)
        image = _stained(image, nucleus, kind, noise(generator, size, 0.8))
        regions = [np.asarray(region * (1 - nucleus), np.float32) for region in regions]
        regions[kind] = np.maximum(regions[kind], nucleus)
    labels: dict[str, Label] = {"nuclei": mask(*regions), "tissue": tissue, "cells": str(count)}
    image = np.asarray(image.clip(0, 1), np.float32)
    return Patient(views=(View(image=image, labels=labels),), illness=float(count))


def _free(places: list[tuple[float, float]], generator: np.random.Generator) -> tuple[float, float]:
    """The loneliest of a few places, so that nuclei rarely overlap."""
    tried = generator.uniform(-0.92, 0.92, (8, 2))
    gaps = [min((np.hypot(*(spot - np.asarray(p))) for p in places), default=9.0) for spot in tried]
    y, x = tried[int(np.argmax(gaps))]
    places.append((float(y), float(x)))
    return places[-1]


def _nucleus(axes: list[Values], place: tuple[float, float], kind: int, generator: np.random.Generator) -> Values:
    semi, _, rough = TYPES[kind]
    scale = float(generator.uniform(0.85, 1.15))
    if rough:
        return bumpy(axes, place, scale * semi[0], rough, generator)
    own = turned(axes, shift=place, angle=float(generator.uniform(0, np.pi)))
    return ellipse(own, (0.0, 0.0), (scale * semi[0], scale * semi[1]))


def _stained(image: Values, nucleus: Values, kind: int, grain: Values) -> Values:
    paint = np.asarray(TYPES[kind][1], np.float32)[:, None, None] * (1 + np.float32(0.08) * grain)
    return np.asarray(image * (1 - nucleus) + paint * nucleus, np.float32)
