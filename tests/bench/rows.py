"""What a bench returns: figures, each beside plain Flower's figure of the same run and the budget it has to keep."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound on the figure itself, or on its ratio to plain Flower's (or another yardstick's) figure."""

    of: Literal["value", "ratio"]
    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'ratio ' if self.of == 'ratio' else ''}{sign} {self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `low` and `high` are the extremes of `count` measurements of which `value` is the median."""

    bench: str
    what: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    count: int = 1
    yardstick: float | None = None
    yardstick_name: str = "plain Flower"
    budget: Budget | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.yardstick if self.yardstick else None

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None without a budget, or without the figure that it needs."""
        if self.budget is None:
            return None
        found = self.value if self.budget.of == "value" else self.ratio
        if found is None:
            return None
        return found >= self.budget.limit if self.budget.at_least else found <= self.budget.limit

    def to_json(self) -> dict[str, object]:
        """Everything in the row, and what follows from it."""
        budget = str(self.budget) if self.budget else None
        return {**asdict(self), "ratio": self.ratio, "budget": budget, "met": self.met}


def measured(
    bench: str,
    what: str,
    unit: str,
    figures: Sequence[float],
    *,
    yardstick: Sequence[float] = (),
    yardstick_name: str = "plain Flower",
    budget: Budget | None = None,
) -> Row:
    """The row of several measurements of the same thing: medians, because one hiccup must not decide."""
    return Row(
        bench=bench,
        what=what,
        unit=unit,
        value=statistics.median(figures),
        low=min(figures),
        high=max(figures),
        count=len(figures),
        yardstick=statistics.median(yardstick) if yardstick else None,
        yardstick_name=yardstick_name,
        budget=budget,
    )
