"""Simulation of many sites on one machine: our engine in one process against Flower's on Ray."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from polyward_shared.problems import Problem
from polyward_shared.supervise import module
from tests.bench.rows import Row, measured
from tests.bench.running import FamilyMemory, finished
from tests.bench.scale import Scale, Step
from tests.bench.simulated import RESULT
from tests.bench.stock import parsed, seconds_of

TINY, LARGE = 2500, 25_000_000
ROUNDS = 5
LIMIT = 240.0  # seconds for one simulation, start included
MEMORY_FOR_LARGE = 10 * 2**30  # Ray held 5.7 GB with eight sites of 100 MB when this was written

Figures = tuple[list[float], float]  # seconds per round, peak memory in MB


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """8 and 32 sites with a tiny encoder; 8 with a large one where there is memory for it."""
    sizes = [(8, TINY), (scale.of(32, quick=10), TINY)]
    if psutil.virtual_memory().available > MEMORY_FOR_LARGE:
        sizes.append((8, scale.of(LARGE, quick=LARGE // 10)))
    rows: list[Row] = []
    for sites, values in sizes:
        found = {}
        for engine in ("ours", "ray"):
            step(f"{engine}: {sites} sites, {_size(values)}, {ROUNDS + 1} rounds")
            found[engine] = _simulated(engine, sites, values, folder)
        rows += _rows(f"{sites} sites, {_size(values)}", found["ours"], found["ray"])
    return rows


def _simulated(engine: str, sites: int, values: int, folder: Path) -> Figures:
    place = folder / f"{engine}-{sites}-{values}"
    place.mkdir()
    memory = FamilyMemory()
    command = module("tests.bench.simulated", engine, str(sites), str(values), str(ROUNDS + 1), str(place))
    printed = finished(command, place / "log", seconds=LIMIT, watch=memory, FLWR_HOME=str(place / "flower"))
    if engine == "ray":
        seconds = seconds_of(parsed(printed))
    else:
        seconds = json.loads(
            next(line for line in printed.splitlines() if line.startswith(RESULT)).removeprefix(RESULT)
        )
    if len(seconds) != ROUNDS + 1:
        raise Problem(engine, f"ended {len(seconds)} of {ROUNDS + 1} rounds\n{printed[-1000:]}")
    return seconds[1:], memory.peak


def _rows(what: str, ours: Figures, ray: Figures) -> list[Row]:
    name = "Flower on Ray"
    memory = Row(
        bench="simulation", what=f"{what}: peak memory", unit="MB", value=ours[1], yardstick=ray[1], yardstick_name=name
    )
    return [measured("simulation", f"{what}: round", "s", ours[0], yardstick=ray[0], yardstick_name=name), memory]


def _size(values: int) -> str:
    return f"{values * 4 / 1e6:.0f} MB" if values > 250_000 else f"{values * 4 / 1e3:.0f} kB"
