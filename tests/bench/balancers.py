"""What each balancer costs: the time of a training step against that of `equal`, on the same model and batch.

Runs in a process of its own (`python -m tests.bench.balancers SECONDS`), for the number of threads belongs to a whole
process. Every step of a balancer stands beside one of `equal`, and the figure is the median of their ratios, so that a
change in the machine's speed meets both. Gradients are compared at the pyramid unless the row says something else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyward_shared.supervise import module
from polyward_shared.training import BALANCERS
from tests.bench.rows import Row, measured
from tests.bench.running import finished
from tests.bench.scale import Scale, Step

RESULT = "SECONDS-OF-A-STEP"
FEWEST, WARM_UP = 3, 2  # turns; the first steps of a model are slower than all others
BATCH, SIDE = 8, 64
THEIRS = ("torchjd:MGDA", "torchjd:PCGrad")
VARIANTS = (
    *((kind, "features") for kind in BALANCERS if kind != "equal"),
    *((kind, "features") for kind in THEIRS),
    ("mgda", "parameters"),  # one pass through the encoder for each task
)
STUDY: dict[str, Any] = {
    "id": "balancers",
    "rounds": 1,
    "image": {"size": [SIDE, SIDE]},
    "encoder": {"filters": 8, "blocks": [1, 1, 1, 1]},
    "tasks": {
        "lesion": {"kind": "binary"},
        "grade": {"kind": "ordinal", "classes": ["none", "mild", "severe"]},
        "size": {"kind": "regression"},
        "organ": {"kind": "segmentation", "classes": ["organ", "lesion"]},
    },
}


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """One row for each balancer; `equal` itself in milliseconds."""
    seconds = scale.of(100, quick=10)
    step(f"{len(VARIANTS)} balancers beside equal, {seconds} s")
    printed = finished(module("tests.bench.balancers", str(seconds)), folder / "log", seconds=600)
    line = next(line for line in printed.splitlines() if line.startswith(RESULT))
    found = json.loads(line.removeprefix(RESULT))
    for problem in found["problems"]:
        step(f"left out: {problem}")
    where = f"{len(STUDY['tasks'])} tasks, {SIDE}^2, batch {BATCH}, {found['device']}"
    equal = [1000 * each for each in found["equal"]]
    rows = [measured("balancers", f"a training step with equal: {where}", "ms", equal)]
    for name, ratios in found["ratios"].items():
        rows.append(measured("balancers", f"a training step with {name}", "x equal", ratios))
    return rows


def main() -> None:
    from polyward_client.trainer.trainer import chosen_device, device_name, keep_freed_memory, make_deterministic
    from polyward_shared.problems import Problem

    budget = float(sys.argv[1])
    device = chosen_device("auto")
    make_deterministic(threads=1)
    keep_freed_memory()
    equal = _stepper("equal", "features")
    steppers: dict[str, Callable[[], float]] = {}
    problems: list[str] = []
    for kind, space in VARIANTS:
        name = kind if space == "features" else f"{kind}, space = {space}"
        try:
            steppers[name] = _stepper(kind, space)
        except Problem as problem:  # torchjd, or a solver that one of its weightings wants, is not installed
            problems.append(f"{name}: {problem.found}")
    base: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in steppers}
    began, turn = time.monotonic(), 0
    while turn < FEWEST + WARM_UP or time.monotonic() - began < budget:
        for name, stepper in steppers.items():
            first, second = (stepper(), equal()) if turn % 2 else (equal(), stepper())
            own, plain = (first, second) if turn % 2 else (second, first)
            if turn >= WARM_UP:
                base.append(plain)
                ratios[name].append(own / plain)
        turn += 1
    name = device_name(device, 1) + (", by CPU time" if device.type == "cpu" else "")
    print(f"{RESULT} {json.dumps({'equal': base, 'ratios': ratios, 'problems': problems, 'device': name})}")


def _stepper(kind: str, space: str) -> Callable[[], float]:
    """A model with this balancer; each call is one training step and returns its seconds. Raises `Problem`."""
    import numpy as np
    import torch

    from polyward_client.trainer.dataset import Batch
    from polyward_client.trainer.model import MultiTaskModel
    from polyward_client.trainer.round import Run, optimisers_of
    from polyward_client.trainer.schedule import Phase
    from polyward_client.trainer.step import Dice, train_step
    from polyward_client.trainer.trainer import chosen_device
    from polyward_shared.study import Study
    from tests.bench.throughput import timed

    device = chosen_device("auto")
    study = Study.model_validate({**STUDY, "balancer": {"kind": kind, "space": space}})
    model = MultiTaskModel(study, tuple(study.tasks)).to(device).train()
    draw = np.random.default_rng(0)
    targets = {
        "lesion": draw.integers(0, 2, BATCH).astype(np.float32),
        "grade": draw.integers(0, 3, BATCH),
        "size": draw.standard_normal(BATCH, np.float32),
        "organ": draw.integers(0, 3, (BATCH, SIDE, SIDE)).astype(np.uint8),
    }
    batch = Batch(
        images=torch.from_numpy(draw.random((BATCH, 1, SIDE, SIDE), np.float32)).to(device),
        targets={task: torch.from_numpy(target).to(device) for task, target in targets.items()},
        labelled={task: torch.ones(BATCH, device=device) for task in targets},
        counts=dict.fromkeys(targets, BATCH),
    )
    run = Run(study=study, site="bench", round=1, device=device)
    optimisers = optimisers_of(model, Phase("together", 1, {"encoder": 1e-3, "personal": 1e-3}), run)
    dice = Dice(np.random.default_rng(0), torch.Generator(device).manual_seed(0))

    def work(model: MultiTaskModel) -> None:
        train_step(model, [batch], run, optimisers, dice=dice)

    return lambda: timed(work, model, device)


if __name__ == "__main__":
    main()
