"""The trainer's images per second against a bare PyTorch loop on the same model, loss and tensors.

Runs in a process of its own (`python -m tests.bench.throughput FOLDER EPOCHS TURNS`): determinism and the number of
threads are settings of a whole process. The bare loop is what one would write without a platform: one optimiser, no
progress, no seeds, no cancelling, no determinism.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from polyward_deploy.hospitals import write_hospitals
from polyward_shared.supervise import module
from tests.bench.rows import Budget, Row, measured
from tests.bench.running import finished
from tests.bench.scale import Scale, Step

RATIO = Budget("ratio", 0.95, at_least=True)
THREADS = 1  # the default of a site's device
RESULT = "IMAGES-PER-SECOND"


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """Ours and the bare loop in turns, so that a change in the machine's speed meets both."""
    turns, epochs = scale.of(7, quick=3), scale.of(3, quick=1)
    write_hospitals(folder / "data", images=scale.of(600, quick=200))
    step(f"{turns} turns of {epochs} epochs, ours and bare")
    command = module("tests.bench.throughput", str(folder / "data"), str(epochs), str(turns))
    printed = finished(command, folder / "log", seconds=600)
    line = next(line for line in printed.splitlines() if line.startswith(RESULT))
    found = json.loads(line.removeprefix(RESULT))
    what = f"training, joint schedule, {found['device']}"
    return [
        measured(
            "throughput",
            what,
            "images/s",
            found["ours"],
            yardstick=found["bare"],
            yardstick_name="bare PyTorch loop",
            budget=RATIO,
        )
    ]


def main() -> None:
    import numpy as np
    import torch
    from torch import nn

    from polyward_client.site import read_site
    from polyward_client.trainer.dataset import Dataset, load_dataset
    from polyward_client.trainer.losses import task_losses
    from polyward_client.trainer.manifest import read_manifest
    from polyward_client.trainer.model import MultiTaskModel
    from polyward_client.trainer.round import Run, fit_statistics, train_phase
    from polyward_client.trainer.schedule import Phase
    from polyward_client.trainer.topology.flow import Outputs
    from polyward_client.trainer.trainer import chosen_device, device_name, make_deterministic
    from polyward_shared.study import Study, read_study

    folder, epochs, turns = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    study = read_study(folder / "study.toml")
    device = chosen_device("auto")
    make_deterministic(THREADS)
    site = read_site(folder / "sites" / "riverside.toml")
    tasks = tuple(task for task in site.file.tasks if task in study.tasks)
    data = load_dataset(read_manifest(site, study, tasks), study).moved(device)
    rate = study.training.learning_rate

    def new_model() -> MultiTaskModel:
        model = MultiTaskModel(study, tasks).to(device)
        fit_statistics(model, data)
        return model

    def ours(model: MultiTaskModel) -> None:
        torch.use_deterministic_algorithms(True)
        phase = Phase("together", epochs, {"encoder": rate, "personal": rate})
        train_phase(model, data, Run(study=study, site=site.name, round=1, device=device), phase)

    def bare(model: MultiTaskModel) -> None:
        torch.use_deterministic_algorithms(False)
        _bare(model, data, study)

    def _bare(model: MultiTaskModel, data: Dataset, study: Study) -> None:
        optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=study.training.weight_decay, fused=True)
        model.train()
        for _ in range(epochs):
            order = np.random.permutation(data.cases("train"))
            total = torch.zeros((), device=device)
            for start in range(0, len(order), study.training.batch):
                batch = data.batch(order[start : start + study.training.batch], device)
                losses = task_losses(model, Outputs(model(batch.images)), batch).values()
                loss = torch.stack(list(losses)).mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), study.training.gradient_clip)
                optimiser.step()
                total += loss.detach()
            float(total)

    images = epochs * len(data.cases("train"))
    found: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(turns + 1):  # the first warms up
        for name, loop in (("ours", ours), ("bare", bare)):
            model = new_model()
            began = time.perf_counter()
            loop(model)
            if turn:
                found[name].append(images / (time.perf_counter() - began))
    print(f"{RESULT} {json.dumps({**found, 'device': device_name(device, THREADS)})}")


if __name__ == "__main__":
    main()
