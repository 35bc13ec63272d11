"""Mask volumes of real data sets with our numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from polyward_deploy.recipes.adapting import Array, Made, volume


def renumbered(source: Path, name: str, values: Mapping[int, int]) -> Made:
    """A mask volume with other numbers: `values` from those of the file to ours; any other becomes 0."""

    def make() -> tuple[Array, Array | None]:
        found, affine = volume(source)
        labels = np.zeros(found.shape, np.uint8)
        for theirs, ours in values.items():
            labels[np.rint(found) == theirs] = ours
        return labels, affine

    return Made(name, make)
