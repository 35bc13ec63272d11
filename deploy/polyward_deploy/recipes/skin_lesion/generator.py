"""A mole or tumour under the dermatoscope. Seven diagnoses differ in colour, border, evenness and size."""

from __future__ import annotations

import numpy as np

from polyward_deploy.recipes.drawing import Values, ball, bumpy, coloured, grid, mask, noise, spline, tube
from polyward_deploy.recipes.patients import Label, Patient, View

# Colour, border's bumpiness, unevenness of tone, radius, share among benign and among suspicious lesions; all invented.
LOOKS = {
    "nv": ((0.55, 0.33, 0.22), 0.1, 0.1, 0.36, 0.55, 0.1),
    "mel": ((0.25, 0.14, 0.13), 0.55, 0.5, 0.55, 0.05, 0.35),
    "bkl": ((0.66, 0.5, 0.3), 0.3, 0.3, 0.48, 0.15, 0.1),
    "bcc": ((0.86, 0.52, 0.52), 0.25, 0.15, 0.4, 0.05, 0.2),
    "akiec": ((0.8, 0.42, 0.36), 0.45, 0.35, 0.5, 0.05, 0.15),
    "df": ((0.62, 0.42, 0.38), 0.1, 0.1, 0.3, 0.08, 0.05),
    "vasc": ((0.6, 0.08, 0.16), 0.25, 0.1, 0.34, 0.07, 0.05),
}
HAIR = (0.18, 0.12, 0.1)


def draw(generator: np.random.Generator, size: tuple[int, ...], *, suspicious: float = 0.5) -> Patient:
    """One photograph [3, height, width] with `lesion` and `diagnosis`; `suspicious` is the share sent for suspicion."""
    worrying = bool(generator.random() < suspicious)
    shares = np.array([look[4 + worrying] for look in LOOKS.values()])
    name = str(generator.choice(list(LOOKS), p=shares / shares.sum()))
    colour, rough, uneven, radius, *_ = LOOKS[name]
    radius = float(np.clip(generator.normal(radius, 0.06), 0.22, 0.7))
    axes = grid(size)
    place = generator.uniform(-0.15, 0.15, 2)
    area = bumpy(axes, place, radius, rough, generator)
    skin = np.array((0.95, 0.74, 0.66)) * generator.uniform(0.75, 1.05)
    image = coloured(np.asarray(1 + 0.03 * noise(generator, size, 2.0), np.float32), skin)
    tone = 1 + uneven * 0.6 * noise(generator, size, 5.0) + 0.05 * noise(generator, size, 1.0)
    image = image * (1 - area) + coloured(np.asarray(tone, np.float32), colour) * area
    if name == "df":
        image = _over(image, ball(axes, place, 0.4 * radius), (0.92, 0.8, 0.74))  # a white scar in the middle
    if name == "bcc":
        image = _over(image, 0.6 * ball(axes, place + 0.1, 0.3 * radius), (0.98, 0.85, 0.82))
    for _ in range(int(generator.integers(0, 5))):
        ends = generator.uniform(-1, 1, (2, 2))
        hair = spline([ends[0], ends.mean(axis=0) + generator.normal(0, 0.2, 2), ends[1]], 8)
        image = _over(image, 0.7 * tube(axes, hair, 0.012), HAIR)
    image = np.asarray(image.clip(0, 1), np.float32)
    labels: dict[str, Label] = {"lesion": mask(area), "diagnosis": name}
    return Patient(views=(View(image=image, labels=labels),), illness=float(list(LOOKS).index(name)))


def _over(image: Values, region: Values, colour: tuple[float, ...]) -> Values:
    return np.asarray(image * (1 - region) + coloured(region, colour), np.float32)
