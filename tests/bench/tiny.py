"""The platform's own share of a round: a tiny encoder, two sites, everything real but the training."""

from __future__ import annotations

from pathlib import Path

from tests.bench.ours import null_federation
from tests.bench.rows import Budget, Row, measured
from tests.bench.scale import Scale, Step
from tests.bench.stock import plain_flower

VALUES = 2500  # float32: 10 kB
SITES = 2
LIMIT = 30.0  # seconds for one round of ours
RATIO = Budget("ratio", 0.15)
AIM = Budget("value", 0.3)


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """Seconds from one committed round to the next, after a warm-up, ours and plain Flower's."""
    count = scale.of(20, quick=4)
    step(f"ours: {SITES} sites, {count + 1} rounds")
    with null_federation(folder / "ours", sites=SITES, values=VALUES, rounds=count + 1) as nulls:
        ours = nulls.seconds_per_round(limit=LIMIT)
    count = scale.of(10, quick=2)
    step(f"plain Flower: {SITES} sites, {count + 1} rounds")
    plain = plain_flower(folder / "plain", sites=SITES, values=VALUES, rounds=count + 1, limit=120 + 20 * count)
    what = f"round beyond training, 10 kB, {SITES} sites"
    return [
        measured("tiny", what, "s", ours, yardstick=plain.seconds, budget=RATIO),
        measured("tiny", f"{what}: our aim", "s", ours, budget=AIM),
    ]
