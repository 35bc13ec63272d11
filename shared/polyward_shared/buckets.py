"""Numbers of patients or images told in steps, where the exact one is nobody's business."""

from __future__ import annotations

SMALLEST = 10


def bucket(count: int) -> str:
    """The step that holds the count, such as "20-49": 0, 1-9, then 10, 20, 50, 100, 200, 500 and so on."""
    if count < SMALLEST:
        return "1-9" if count > 0 else "0"
    low = SMALLEST
    while True:
        for factor, next_factor in ((1, 2), (2, 5), (5, 10)):
            if count < low * next_factor:
                return f"{low * factor}-{low * next_factor - 1}"
        low *= 10
