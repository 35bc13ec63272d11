"""How much a bench does, and whom it tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scale:
    """Full sizes for figures that are quoted, small ones for trying the bench itself."""

    quick: bool

    def of(self, full: int, *, quick: int) -> int:
        return quick if self.quick else full
