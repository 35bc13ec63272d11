"""Digits at twenty sites: the split of MNIST that PFLlib ships, or digits drawn by a program.

MNIST's images are those of Y. LeCun and C. Cortes (CC BY-SA 3.0). A generated digit is a glyph of strokes that is
turned, sheared, stretched and moved, drawn with a pen of some width on a noisy ground; sites get labels by a
Dirichlet(0.1) draw, as in the split of MNIST.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyward_deploy.experiments.network import Labels, Values
from polyward_shared.problems import Problem

SITES, CLASSES, SIDE = 20, 10, 28
INPUTS = SIDE * SIDE
VARIABLE = "POLYWARD_PACKS"
PACK = Path("mnist20") / "mnist20.npz"


@dataclass(frozen=True, slots=True)
class Digits:
    """One site's images [images, 784] in -1 to 1 and classes [images]."""

    train_x: Values
    train_y: Labels
    test_x: Values
    test_y: Labels


def pack_path() -> Path:
    """The file of the pack. Raises `Problem`."""
    root = os.environ.get(VARIABLE)
    if not root:
        raise Problem(
            VARIABLE,
            "is not set",
            expected=f"the folder that holds {PACK}",
            remedy=f"export {VARIABLE}=/the/folder, or use --generated for digits drawn by a program",
        )
    path = Path(root) / PACK
    if not path.is_file():
        raise Problem(
            str(path),
            "there is no such file",
            expected=f"{VARIABLE} to name the folder that holds {PACK}",
            remedy=f"correct {VARIABLE}, or use --generated for digits drawn by a program",
        )
    return path


def read_pack(path: Path, samples: int) -> list[Digits]:
    """Every site with its first `samples` training images after a shuffle of its own, and all of its test images."""
    try:
        with np.load(path) as pack:
            return [_of_pack(pack, site, samples) for site in range(SITES)]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile):
        raise Problem(
            str(path), "cannot be read", expected="arrays {train,test}_{site}_{x,y} of 20 sites", remedy="fetch it anew"
        ) from None


def _of_pack(pack: np.lib.npyio.NpzFile, site: int, samples: int) -> Digits:
    train_x, train_y, test_x, test_y = (pack[f"{split}_{site}_{kind}"] for split in ("train", "test") for kind in "xy")
    chosen = np.random.default_rng(7 + site).permutation(len(train_y))[:samples]
    return Digits(_scaled(train_x[chosen]), train_y[chosen].astype(np.int64), _scaled(test_x), test_y.astype(np.int64))


def _scaled(images: NDArray[np.uint8]) -> Values:
    """[images, 28, 28] of 0 to 255 -> [images, 784] of -1 to 1."""
    return np.asarray(images.reshape(len(images), -1) / np.float32(127.5) - 1, np.float32)


def digest(digits: Sequence[Digits]) -> str:
    """SHA-256 over everything, so that a run on other data is another run."""
    running = hashlib.sha256()
    for each in digits:
        for array in (each.train_x, each.train_y, each.test_x, each.test_y):
            running.update(np.ascontiguousarray(array).data)
    return running.hexdigest()
