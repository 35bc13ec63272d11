"""From two dimensions to three: the arrays of an encoder trained on slices become those of one for volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyward_shared.problems import Problem

KERNEL = 4  # dimensions of a convolution's weight in 2D: outputs, inputs, height, width


def expanded(arrays: Mapping[str, NDArray[Any]], axis: int = -1) -> dict[str, NDArray[Any]]:
    """Centre-slice inflation (the dimensional transfer of arXiv 2307.15872).

    A kernel [o, i, h, w] becomes the centre along a new axis of length w whose other slices are 0; `axis` is the place
    of the new axis in the result, -1 for [o, i, h, w, d]. All other arrays stay as they are. A network of convolutions
    then answers a volume that is constant along the new axis as it answered the slice. Raises `Problem` for a kernel
    of even width, which has no centre.
    """
    return {name: _kernel(name, array, axis) if array.ndim == KERNEL else array for name, array in arrays.items()}


def _kernel(name: str, array: NDArray[Any], axis: int) -> NDArray[Any]:
    depth = array.shape[-1]
    if depth % 2 == 0:
        raise Problem(name, f"a kernel of even width {depth} has no centre", expected="kernels of odd width")
    volume = np.zeros((depth, *array.shape), array.dtype)
    volume[depth // 2] = array
    return np.ascontiguousarray(np.moveaxis(volume, 0, axis))
