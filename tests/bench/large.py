"""A large encoder: seconds of communication and aggregation in a round, and what the processes need of memory."""

from __future__ import annotations

from pathlib import Path

from polyward_shared.codec import Codec
from tests.bench.ours import Nulls, null_federation
from tests.bench.rows import Budget, Row, measured
from tests.bench.scale import Scale, Step
from tests.bench.stock import Plain, plain_flower

VALUES = 25_000_000  # float32: 100 MB
CODECS: tuple[Codec, ...] = ("float32", "bfloat16")
LIMIT = 90.0  # seconds for one round of ours
RATIO = Budget("ratio", 0.4)


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """For 2 and 4 sites, each codec of ours against Flower's one form."""
    rows: list[Row] = []
    values = scale.of(VALUES, quick=VALUES // 10)
    for sites in (2, 4):
        count = scale.of(4, quick=2)
        step(f"plain Flower: {values * 4 / 1e6:.0f} MB, {sites} sites, {count + 1} rounds")
        where = folder / f"plain-{sites}"
        plain = plain_flower(where, sites=sites, values=values, rounds=count + 1, limit=180 + 60 * count)
        for codec in CODECS:
            count = scale.of(6, quick=2)
            step(f"ours: {values * 4 / 1e6:.0f} MB, {sites} sites, {codec}, {count + 1} rounds")
            where = folder / f"ours-{sites}-{codec}"
            with null_federation(where, sites=sites, values=values, rounds=count + 1, codec=codec) as nulls:
                rows += _rows(nulls, plain, sites=sites, values=values, codec=codec)
    return rows


def _rows(nulls: Nulls, plain: Plain, *, sites: int, values: int, codec: Codec) -> list[Row]:
    megabytes = values * 4 / 1e6
    bound = Budget("value", round(4 * megabytes + 200))
    what = f"{megabytes:.0f} MB, {sites} sites, {codec}"
    ours = nulls.seconds_per_round(limit=LIMIT)
    peaks = nulls.peaks()
    pairs = (("runner", "ServerApp", bound), ("SuperLink", "SuperLink", None), ("node", "node", None))
    rows = [measured("large", f"{what}: round", "s", ours, yardstick=plain.seconds, budget=RATIO)]
    for name, plain_name, budget in pairs:
        figure = f"{what}: peak memory, {name}"
        rows.append(
            Row(
                bench="large",
                what=figure,
                unit="MB",
                value=peaks[name],
                yardstick=plain.peaks[plain_name],
                budget=budget,
            )
        )
    return rows
