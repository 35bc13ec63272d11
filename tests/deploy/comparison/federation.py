"""Two generated sites, one without the mask, and a study of two quick rounds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from polyward_client.site import Site, read_site
from polyward_deploy.comparison.plan import Run
from polyward_deploy.hospitals import write_hospitals
from polyward_shared.study import Study, read_study


def small_federation(folder: Path) -> tuple[Study, list[Site]]:
    """The study and its sites."""
    path = write_hospitals(folder, hospitals=2, images=120, size=16)
    study = read_study(path)
    training = study.training.model_copy(update={"epochs": 1, "final_epochs": 0})
    encoder = study.encoder.model_copy(update={"filters": 4, "blocks": (1, 1), "groups": 4})
    chosen = {name: study.tasks[name] for name in ("lesion_suspicious", "structures")}
    files = sorted((path.parent / "sites").glob("*.toml"))
    for file in files:
        text = file.read_text(encoding="utf-8").replace(
            '"lesion_suspicious", "grade", "organ_size"', '"lesion_suspicious"'
        )
        file.write_text(text + "\n[policy]\nminimum_count = 1\n", encoding="utf-8")  # few cases, all generated
    small = study.model_copy(update={"rounds": 2, "training": training, "encoder": encoder, "tasks": chosen})
    return small, [read_site(file) for file in files]


def events(run: Run) -> list[tuple[object, ...]]:
    """Everything that a run's ledger has written down, with its time."""
    with sqlite3.connect(run.folder / "ledger.db") as db:
        found = list(db.execute("select at, round, site, what from events order by id"))
    db.close()
    return found
