"""What a recipe's generator draws: a patient with one image or several, and the labels that belong to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyward_deploy.phantoms import Values

# A manifest cell, a mask (uint8 [*spatial]), another image (float32 [channels, *spatial], 0 to 1), or the cells of a
# task with several columns, by column.
Label = str | NDArray[np.uint8] | Values | Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One image before any scanner: float32 [channels, *spatial], brightness 0 to 1; labels by task."""

    image: Values
    labels: Mapping[str, Label]
    columns: Mapping[str, str] = field(default_factory=dict)  # side inputs, groups: further cells of its row


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """`illness` orders the patients of a site, so that every split has mild and severe ones."""

    views: tuple[View, ...]
    illness: float


class Draw(Protocol):
    """A patient whose images have the spatial size `size`; `patients` is the site's table of that name."""

    def __call__(self, generator: np.random.Generator, size: tuple[int, ...], **patients: float) -> Patient: ...
