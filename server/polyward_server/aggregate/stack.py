"""The changes of one round and one group side by side, on the disk, for rules that must see them together.

Values are read block by block in the order of the sites' names, and summed in float64 without BLAS: the result depends
neither on who came first nor on the number of threads. Memory: one block of every row, and one vector for a result.
Rows are read rather than mapped, so that their pages never count as the hub's own memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyward_shared.schema import Flat

Array = NDArray[np.float64]

BLOCK = 1 << 15  # values of each row: a quarter of a megabyte, so that some rows fit into a core's cache
SUFFIX = ".row"


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    scale: float


class Stack:
    """N rows of `size` float32 values, by site. The folder is made where it is missing, and belongs to the stack alone.

    What an interrupted round left in the folder is removed.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self._rows: dict[str, _Row] = {}
        self._written = 0
        self._gram: Array | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{SUFFIX}"):
            left.unlink()

    @property
    def sites(self) -> tuple[str, ...]:
        """Sorted: the order of the rows."""
        return tuple(sorted(self._rows))

    def add(self, site: str, update: Flat, base: Flat, scale: float = 1.0) -> None:
        """Keeps (update - base) * scale, all [size]; a second row of the same site takes the first one's place."""
        if update.shape != (self.size,) or base.shape != (self.size,):
            raise ValueError(f"expected {self.size} values, found shapes {update.shape} and {base.shape}")
        path = self.folder / f"{self._written}{SUFFIX}"
        self._written += 1
        with path.open("wb") as file:
            for part in self._parts():
                np.subtract(update[part], base[part], dtype=np.float64).astype("<f4").tofile(file)
        before = self._rows.get(site)
        self._rows[site] = _Row(path, scale)
        self._gram = None
        if before is not None:
            before.path.unlink()

    def shorten(self, site: str, scale: float) -> None:
        """Multiplies a row that is already here."""
        row = self._rows[site]
        self._rows[site] = _Row(row.path, row.scale * scale)
        self._gram = None

    def row(self, site: str, part: slice | None = None) -> Array:
        """One site's row [size], or a part of it from `part.start` up to `part.stop`."""
        row, begin, end = self._rows[site], 0, self.size
        if part is not None:
            begin, end = part.start, min(part.stop, self.size)
        values = np.fromfile(row.path, "<f4", end - begin, offset=4 * begin).astype(np.float64)
        return np.multiply(values, row.scale, out=values)

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """All rows, BLOCK values at a time: where they lie, and [N, m]."""
        sites = self.sites
        for part in self._parts():
            yield part, np.stack([self.row(site, part) for site in sites])

    def gram(self) -> Array:
        """Inner products of the rows [N, N]; kept until a row changes."""
        if self._gram is None:
            self._gram = np.zeros((len(self._rows), len(self._rows)))
            if self._rows:
                for _, rows in self.blocks():
                    self._gram += inner_products(rows)
            self._gram.flags.writeable = False
        return self._gram

    def combined(self, coefficients: NDArray[np.float64]) -> Array:
        """The sum of the rows, each times its coefficient [N]: [size]. Rows with none are not read."""
        total = np.zeros(self.size)
        wanted = [(site, factor) for site, factor in zip(self.sites, coefficients, strict=True) if factor != 0]
        for part in self._parts():
            for site, factor in wanted:
                total[part] += factor * self.row(site, part)
        return total

    def close(self) -> None:
        """Removes the files, and with them the rows."""
        for row in self._rows.values():
            row.path.unlink(missing_ok=True)
        self._rows.clear()
        self._gram = None

    def _parts(self) -> Iterator[slice]:
        for begin in range(0, self.size, BLOCK):
            yield slice(begin, min(begin + BLOCK, self.size))


def inner_products(rows: Array) -> Array:
    """R Rᵀ [N, N] of rows [N, m], symmetric to the last bit, without BLAS."""
    gram = np.empty((len(rows), len(rows)))
    for index, row in enumerate(rows):
        gram[index, index:] = np.einsum("m,jm->j", row, rows[index:])
        gram[index:, index] = gram[index, index:]
    return gram
