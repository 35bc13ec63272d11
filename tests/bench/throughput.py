"""The trainer's images per second against a bare PyTorch loop on the same model, loss and tensors.

Runs in a process of its own (`python -m tests.bench.throughput FOLDER EPOCHS TURNS`): determinism and the number of
threads are settings of a whole process. The bare loop is what one would write without a platform: one optimiser, no
progress, no journal, no seeds, no cancelling, no determinism, no variation of the images.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from polyward_deploy.hospitals import write_hospitals
from polyward_shared.supervise import module
from tests.bench.rows import Budget, Row, measured
from tests.bench.running import finished
from tests.bench.scale import Scale, Step

if TYPE_CHECKING:
    import torch

    from polyward_client.trainer.model import MultiTaskModel

RATIO = Budget("ratio", 0.95, at_least=True)
THREADS = 1  # the default of a site's device
RESULT = "IMAGES-PER-SECOND"
SITE = "riverside"  # an image-level task and a mask
YARDSTICK = "bare PyTorch loop"


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """Ours and the bare loop in many short turns: a machine's speed changes from second to second, and meets all."""
    rows: list[Row] = []
    for dimensions, size, images in ((2, 64, scale.of(600, quick=200)), (3, 24, scale.of(160, quick=80))):
        turns, epochs = scale.of(45 if dimensions == 2 else 31, quick=3), 1
        data = folder / f"{dimensions}d"
        write_hospitals(data, images=images, size=size, dimensions=dimensions)
        step(f"{size}^{dimensions}: {turns} turns of an epoch, ours, ours with light augmentation, and bare")
        command = module("tests.bench.throughput", str(data), str(epochs), str(turns))
        printed = finished(command, folder / f"{dimensions}d.log", seconds=900)
        line = next(line for line in printed.splitlines() if line.startswith(RESULT))
        found = json.loads(line.removeprefix(RESULT))
        for loop, what, budget in (("ours", "", RATIO), ("light", ", augmentation light", None)):
            rows.append(
                measured(
                    "throughput",
                    f"training, joint schedule, {size}^{dimensions}{what}, {found['device']}",
                    "images/s",
                    found[loop],
                    yardstick=found["bare"],
                    yardstick_name=YARDSTICK,
                    budget=budget,
                )
            )
        if busy := found["busy"]:
            what = f"training, joint schedule, {size}^{dimensions}: utilisation of {found['device']}"
            rows.append(measured("throughput", what, "%", busy))
    return rows


def main() -> None:
    import numpy as np
    import torch
    from torch import nn

    from polyward_client.site import read_site
    from polyward_client.trainer.dataset import load_dataset
    from polyward_client.trainer.losses import task_losses
    from polyward_client.trainer.manifest import read_manifest
    from polyward_client.trainer.model import MultiTaskModel
    from polyward_client.trainer.round import Run, fit_statistics, train_phase
    from polyward_client.trainer.schedule import Phase
    from polyward_client.trainer.topology.flow import Outputs
    from polyward_client.trainer.trainer import chosen_device, device_name, keep_freed_memory, make_deterministic
    from polyward_shared.study import Study, read_study

    folder, epochs, turns = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    device = chosen_device("auto")
    make_deterministic(THREADS)
    keep_freed_memory()
    written = read_study(folder / "study.toml")
    study, light = (
        written.model_copy(update={"training": written.training.model_copy(update={"augmentation": augmentation})})
        for augmentation in ("none", "light")
    )
    site = read_site(folder / "sites" / f"{SITE}.toml")
    tasks = tuple(task for task in site.file.tasks if task in study.tasks)
    data = load_dataset(read_manifest(site, study, tasks), study).moved(device)
    training = study.training
    rate = training.learning_rate

    def ours(model: MultiTaskModel, study: Study = study) -> None:
        torch.use_deterministic_algorithms(True)
        phase = Phase("together", epochs, {"encoder": rate, "personal": rate})
        train_phase(model, data, Run(study=study, site=site.name, round=1, device=device), phase)

    def bare(model: MultiTaskModel) -> None:
        torch.use_deterministic_algorithms(False)
        optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=training.weight_decay, fused=True)
        model.train()
        for _ in range(epochs):
            order = np.random.permutation(data.cases("train"))
            total = torch.zeros((), device=device)
            for start in range(0, len(order), training.batch):
                batch = data.batch(order[start : start + training.batch], device)
                losses = task_losses(model, Outputs(model(batch.images)), batch).values()
                loss = torch.stack(list(losses)).mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
                optimiser.step()
                total += loss.detach()
            float(total)

    def new_model() -> MultiTaskModel:
        model = MultiTaskModel(study, tasks).to(device)
        fit_statistics(model, data)
        return model

    loops = {"ours": ours, "bare": bare, "light": lambda model: ours(model, light)}
    images = epochs * len(data.cases("train"))
    found: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(turns + 1):  # the first warms up
        for name in sorted(loops, reverse=turn % 2 == 0):  # who comes first changes
            seconds = timed(loops[name], new_model(), device)
            if turn:
                found[name].append(images / seconds)
    busy = utilisation(lambda: ours(new_model()), device) if device.type == "cuda" else []
    name = device_name(device, THREADS) + (", by CPU time" if device.type == "cpu" else "")
    if device.type == "cuda" and not busy:
        name += ", utilisation not available"
    print(f"{RESULT} {json.dumps({**found, 'busy': busy, 'device': name})}")


def timed(work: Callable[[MultiTaskModel], None], model: MultiTaskModel, device: torch.device) -> float:
    """Seconds of the work. On the CPU those of the processor: with one thread they are the wall's on an idle machine,
    and a machine that is not idle spoils them least."""
    import torch

    if device.type == "cpu":
        began = time.process_time()
        work(model)
        return time.process_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    work(model)
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def utilisation(work: Callable[[], None], device: torch.device) -> list[float]:
    """Percent of the time in which the GPU was busy, looked at while the work runs; none without NVIDIA's library."""
    import torch

    try:
        torch.cuda.utilization(device)
    except (ImportError, RuntimeError):  # pynvml is missing, or the driver does not answer
        return []
    seen: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            seen.append(float(torch.cuda.utilization(device)))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        work()
    finally:
        done.set()
        looker.join()
    return seen


if __name__ == "__main__":
    main()
