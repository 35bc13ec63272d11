"""Generated images: a simple body with two fields, an organ and perhaps a lesion, as a scanner would show it.

One latent anatomy gives the image, the mask and every label, so that tasks are related the way real ones are: what
helps to outline a lesion also helps to grade it. Lengths are in half widths of the image (its edge lies at 1), and
vectors run from the slowest axis to the fastest, `(y, x)` or `(z, y, x)`. Nothing here stands for a patient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from polyward_shared.reading import Frozen

Values = NDArray[np.float32]
Vector = tuple[float, ...]

TYPES = ("solid", "ring", "spotted")
GRADES = ("clear", "low", "middle", "high")
STRUCTURES = ("organ", "lesion")  # mask labels 1 and 2; where both are, the lesion shows
VIEW_CM = 32.0  # the width that an image is taken to cover
PLACES = {"left": (-0.12, -0.44), "right": (-0.12, 0.44), "organ": (0.2, 0.05)}
FIELD_AXES, ORGAN_FORM = (0.42, 0.25), (0.85, 1.2)
SMALLEST, LARGEST = 0.15, 0.33  # lesion radius; at 64 x 64 fewer than five pixels show neither margin nor type
WAVES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """Its labels follow from `radius`, `contrast` and `irregularity`, the last two from 0 to 1."""

    kind: str  # of `TYPES`
    place: str  # of `PLACES`
    offset: Vector
    radius: float
    contrast: float
    irregularity: float
    waves: NDArray[np.float64]  # [waves, direction + frequency + phase]: bumps of the margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """One patient, before any scanner."""

    shift: Vector
    angle: float  # in the plane of the last two axes
    body: Vector  # semi-axes
    organ: float  # radius
    lesion: Lesion | None


class Scanner(Frozen):
    """How a hospital's device shows the same anatomy. Bright stays bright: no device inverts."""

    note: str
    blur: float = Field(default=0.0, ge=0)  # pixels of a 64-pixel image
    lines: float = Field(default=1.0, gt=0, le=1)  # share of the pixels that are measured; the rest is interpolated
    noise: float = Field(default=0.02, ge=0)
    gain: float = Field(default=1.0, gt=0)
    gamma: float = Field(default=1.0, gt=0)
    bias: float = 0.0  # brightness change from one edge to the other


def draw_anatomy(generator: np.random.Generator, dimensions: int, *, prevalence: float, severity: float) -> Anatomy:
    """A patient; `prevalence` is the share with a lesion, `severity` (0..1) the mean irregularity of a margin."""
    shift, angle = draw_pose(generator, dimensions)
    body = (*generator.uniform(0.8, 0.9, dimensions - 2), generator.uniform(0.64, 0.78), generator.uniform(0.84, 0.94))
    organ = float(generator.uniform(0.16, 0.42))
    diseased = generator.random() < prevalence
    lesion = _draw_lesion(generator, dimensions, severity) if diseased else None
    return Anatomy(shift=shift, angle=angle, body=tuple(map(float, body)), organ=organ, lesion=lesion)


def draw_pose(generator: np.random.Generator, dimensions: int) -> tuple[Vector, float]:
    """How the patient lies: shift and angle."""
    return tuple(map(float, generator.uniform(-0.06, 0.06, dimensions))), float(generator.normal(0, 0.1))


def another_view(anatomy: Anatomy, generator: np.random.Generator) -> Anatomy:
    """The same patient, lying otherwise."""
    shift, angle = draw_pose(generator, len(anatomy.body))
    return replace(anatomy, shift=shift, angle=angle)


def findings(anatomy: Anatomy, organ_size: float, generator: np.random.Generator) -> dict[str, str]:
    """Every label but the mask, as manifests write them; observers are not perfect, hence the generator.

    A patient without a lesion has no `lesion_type`.
    """
    lesion = anatomy.lesion
    labels = {"lesion_suspicious": "0", "grade": GRADES[0], "organ_size": f"{organ_size:.1f}", "lesion_type": ""}
    if lesion is not None:
        size = (lesion.radius - SMALLEST) / (LARGEST - SMALLEST)
        suspicion = lesion.irregularity + 0.5 * lesion.contrast + generator.normal(0, 0.06)
        burden = 0.6 * size + 0.4 * lesion.irregularity + generator.normal(0, 0.04)
        labels["lesion_suspicious"] = str(int(suspicion > 0.72))
        labels["grade"] = GRADES[1 + int(burden > 0.36) + int(burden > 0.6)]
        labels["lesion_type"] = lesion.kind
    return labels


def render(
    anatomy: Anatomy, scanner: Scanner, size: int, *, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    """Image, mask of `STRUCTURES` and the organ's size in cm2 (ml in 3D), all from one anatomy."""
    dimensions = len(anatomy.body)
    axes = _body_axes(anatomy, size)
    pixel = 2.0 / size
    coarse, fine = (texture(generator, (size,) * dimensions, sigma * size / 64) for sigma in (2.5, 0.8))

    body = ellipsoid(axes, _vector((0.0, 0.0), dimensions), anatomy.body, pixel)
    inner = ellipsoid(axes, _vector((0.0, 0.0), dimensions), tuple(a - 0.07 for a in anatomy.body), pixel)
    organ_axes = _semi_axes(tuple(anatomy.organ * form for form in ORGAN_FORM), anatomy.organ, dimensions)
    organ = ellipsoid(axes, _vector(PLACES["organ"], dimensions), organ_axes, pixel)

    image = np.full(organ.shape, 0.03, np.float32)
    image = paint(image, body, 0.42 + 0.02 * fine)
    image = paint(image, inner, 0.32 + 0.02 * coarse)
    for side in ("left", "right"):
        field = ellipsoid(axes, _vector(PLACES[side], dimensions), _semi_axes(FIELD_AXES, 0.5, dimensions), pixel)
        image = paint(image, field, 0.2 + 0.02 * fine)
    image = paint(image, organ, 0.5 + 0.02 * coarse + 0.02 * fine)

    mask = (organ > 0.5).astype(np.uint8)
    organ_size = float(np.mean(mask)) * VIEW_CM**dimensions
    if anatomy.lesion is not None:
        lesion, depth = _lesion(axes, anatomy.lesion, pixel)
        inside = {"solid": 1 + 0.05 * fine, "ring": 1.25 - 1.1 * (depth > 0.4), "spotted": 0.7 + 0.6 * (fine > 0.5)}
        image = image + lesion * np.float32(0.26 + 0.2 * anatomy.lesion.contrast) * inside[anatomy.lesion.kind]
        mask[lesion > 0.5] = 2
    return scan(image, scanner, generator), mask, organ_size


def _draw_lesion(generator: np.random.Generator, dimensions: int, severity: float) -> Lesion:
    directions = generator.normal(size=(WAVES, dimensions))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bumps = np.stack([generator.uniform(3, 9, WAVES), generator.uniform(0, 2 * np.pi, WAVES)], axis=1)
    return Lesion(
        kind=TYPES[generator.integers(len(TYPES))],
        place=list(PLACES)[generator.integers(len(PLACES))],
        offset=tuple(map(float, generator.uniform(-0.09, 0.09, dimensions))),
        radius=float(generator.uniform(SMALLEST, LARGEST)),
        contrast=float(generator.random()),
        irregularity=float(generator.beta(1.5 * severity, 1.5 * (1 - severity))),
        waves=np.concatenate([directions, bumps], axis=1),
    )


def _body_axes(anatomy: Anatomy, size: int) -> list[Values]:
    """Coordinates in the patient's own frame, one array for each axis."""
    line = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    axes = list(np.meshgrid(*[line - np.float32(s) for s in anatomy.shift], indexing="ij", sparse=True))
    cosine, sine = np.float32(np.cos(anatomy.angle)), np.float32(np.sin(anatomy.angle))
    y, x = axes[-2], axes[-1]
    return [*axes[:-2], cosine * y - sine * x, sine * y + cosine * x]


def _vector(plane: tuple[float, float], dimensions: int) -> Vector:
    return (0.0,) * (dimensions - 2) + plane


def _semi_axes(plane: tuple[float, ...], depth: float, dimensions: int) -> Vector:
    return (depth,) * (dimensions - 2) + plane


def ellipsoid(axes: list[Values], centre: Vector, semi: Vector, pixel: float) -> Values:
    """1 inside, 0 outside, with an edge as wide as a pixel."""
    squared = sum(((axis - np.float32(c)) / np.float32(s)) ** 2 for axis, c, s in zip(axes, centre, semi, strict=True))
    distance = (1 - np.sqrt(squared)) * np.float32(min(semi))
    return np.asarray(np.clip(distance / np.float32(pixel) + 0.5, 0, 1), np.float32)


def _lesion(axes: list[Values], lesion: Lesion, pixel: float) -> tuple[Values, Values]:
    """A ball whose radius varies with the direction by its irregularity; and the depth below its margin, 0 to 1."""
    dimensions = len(axes)
    place = _vector(PLACES[lesion.place], dimensions)
    from_centre = np.broadcast_arrays(
        *[axis - np.float32(c + o) for axis, c, o in zip(axes, place, lesion.offset, strict=True)]
    )
    distance = np.sqrt(np.sum(np.square(from_centre), axis=0)) + np.float32(1e-6)
    bumps = np.zeros_like(distance)
    for *direction, frequency, phase in lesion.waves.astype(np.float32):
        along = sum(part * d for part, d in zip(from_centre, direction, strict=True)) / distance
        bumps += np.cos(frequency * along + phase)
    radius = lesion.radius * np.clip(1 + 0.42 * lesion.irregularity * bumps / np.sqrt(WAVES / 2), 0.35, 1.9)
    inside = np.clip((radius - distance) / pixel + 0.5, 0, 1)
    return np.asarray(inside, np.float32), np.asarray(1 - distance / radius, np.float32)


def paint(image: Values, region: Values, value: Values) -> Values:
    return (image * (1 - region) + value * region).astype(np.float32)


def texture(generator: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Values:
    """Filtered noise of mean 0 and standard deviation 1."""
    noise = ndimage.gaussian_filter(generator.standard_normal(shape, np.float32), sigma, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def scan(image: Values, scanner: Scanner, generator: np.random.Generator) -> NDArray[np.uint8]:
    """What the device makes of brightness 0 to 1, [*spatial], as it stores it."""
    size, dimensions = image.shape[0], image.ndim
    if scanner.blur:
        image = ndimage.gaussian_filter(image, scanner.blur * size / 64)
    if scanner.lines < 1:
        full = image.shape
        small = ndimage.zoom(image, [max(2, round(side * scanner.lines)) / side for side in full], order=1)
        image = ndimage.zoom(small, [side / held for side, held in zip(full, small.shape, strict=True)], order=1)
    slope = np.float32(scanner.bias * generator.uniform(0.6, 1.4))
    first, last = (np.linspace(-0.5, 0.5, image.shape[axis], dtype=np.float32) * slope for axis in (0, -1))
    image = image * (1 + last) * (1 + first.reshape(-1, *(1,) * (dimensions - 1)))
    image = image * np.float32(scanner.gain * generator.uniform(0.95, 1.05))
    image = image + np.float32(scanner.noise) * generator.standard_normal(image.shape, np.float32)
    return np.round(np.clip(image, 0, 1) ** np.float32(scanner.gamma) * 255).astype(np.uint8)
