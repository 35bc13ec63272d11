"""Stacks of a few rows, in a folder that goes with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyward_server.aggregate.stack import Stack

Rows = Mapping[str, Sequence[float] | NDArray[Any]]


@contextmanager
def stacked(rows: Rows) -> Iterator[Stack]:
    """The rows, added in the order in which they are given."""
    size = len(next(iter(rows.values()))) if rows else 2
    with TemporaryDirectory() as folder, closing(Stack(Path(folder) / "rows", size)) as stack:
        for site, row in rows.items():
            stack.add(site, np.asarray(row, np.float32), np.zeros(size, np.float32))
        yield stack


def random_rows(seed: int, count: int, size: int = 7) -> dict[str, NDArray[np.float32]]:
    rows = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return {f"site{index}": row for index, row in enumerate(rows)}
