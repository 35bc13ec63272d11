"""The simulation that a newcomer starts: five generated hospitals, five rounds, the federated arm."""

from __future__ import annotations

import time
from pathlib import Path

from polyward_deploy.hospitals import write_hospitals
from polyward_shared.supervise import module
from tests.bench.rows import Budget, Row
from tests.bench.running import FamilyMemory, finished
from tests.bench.scale import Scale, Step

WORKERS = 2
WALL = Budget("value", 60)


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """Wall seconds of the whole command: imports, reading the images, training, the page at the end."""
    images = scale.of(600, quick=200)
    step(f"drawing {images} images")
    study = write_hospitals(folder / "data", images=images)
    step("polyward-sim run, federated arm")
    arguments = ["run", str(study), "--no-compare", "--workers", str(WORKERS), "--out", str(folder / "results")]
    memory = FamilyMemory()
    began = time.monotonic()
    finished(module("polyward_deploy", *arguments), folder / "log", seconds=600, watch=memory)
    wall = time.monotonic() - began
    what = f"5 hospitals x 5 rounds, {WORKERS} workers"
    return [
        Row(bench="demo", what=f"{what}: wall time of the command", unit="s", value=wall, budget=WALL),
        Row(bench="demo", what=f"{what}: peak memory", unit="MB", value=memory.peak),
    ]
