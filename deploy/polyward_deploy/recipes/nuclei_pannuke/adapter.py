"""PanNuke's three folds -> one row for each tile: picture, mask of types, tissue and number of nuclei."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from polyward_deploy.recipes.adapting import Array, Made, Row, files_in, one_in
from polyward_shared.problems import Problem

DATA_SET = "PanNuke"
SPLITS = ("train", "val", "test")  # of the folds
TYPES = 5  # neoplastic, inflammatory, connective, dead, epithelial; the sixth channel is background


def rows(root: Path) -> Iterator[Row]:
    """One row for each tile of the folds that are there. Raises `Problem`."""
    for folder in files_in(root, "Fold [123]", data_set=DATA_SET):
        number = folder.name[-1]
        images, types, masks = (
            np.load(one_in(folder, f"{place}.npy", data_set=DATA_SET), mmap_mode="r")
            for place in (f"images/fold{number}/images", f"images/fold{number}/types", f"masks/fold{number}/masks")
        )
        if not len(images) == len(types) == len(masks) or masks.shape[-1] != TYPES + 1:
            raise Problem(
                str(folder),
                f"holds {len(images)} images, {len(types)} types and masks of the shape {masks.shape}",
                expected=f"as many of each, and {TYPES + 1} channels",
                remedy="unpack the fold again",
            )
        for place in range(len(images)):
            name = f"fold{number}-{place:04d}"
            yield {
                "path": Made(f"{name}.png", _picture(images, place)),
                "patient_id": name,
                "split": SPLITS[int(number) - 1],
                "nuclei": Made(f"{name}.png", _types(masks, place)),
                "tissue": str(types[place]),
                "cells": str(_count(masks[place])),
            }


def _picture(images: Array, place: int) -> Callable[[], tuple[Array, Array | None]]:
    return lambda: (np.asarray(np.rint(images[place]), np.uint8), None)


def _types(masks: Array, place: int) -> Callable[[], tuple[Array, Array | None]]:
    """1 to 5 where a nucleus of that type lies; of two on one pixel the later type shows."""

    def make() -> tuple[Array, Array | None]:
        labels = np.zeros(masks.shape[1:3], np.uint8)
        for kind in range(TYPES):
            labels[masks[place, ..., kind] > 0] = kind + 1
        return labels, None

    return make


def _count(numbers: Array) -> int:
    """Nuclei of a tile: different numbers above 0 in each channel."""
    return sum(int(np.sum(np.unique(numbers[..., kind]) > 0)) for kind in range(TYPES))
