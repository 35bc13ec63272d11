"""A small generated federation for end-to-end tests, and what an undisturbed simulation of it gives."""

from __future__ import annotations

from pathlib import Path

from polyward_deploy.hospitals import write_hospitals
from polyward_deploy.simulate import run_arm
from polyward_server.ledger import Ledger
from polyward_shared.study import Study, read_study


def small_study(folder: Path, *, rounds: int, hospitals: int = 3, **training: object) -> tuple[Study, list[Path]]:
    """A study of generated hospitals with images of 32 x 32, and the sites' files."""
    path = write_hospitals(folder, hospitals=hospitals, images=40 * hospitals, size=32, seed=1)
    study = read_study(path)
    study = study.model_copy(
        update={
            "rounds": rounds,
            "encoder": study.encoder.model_copy(update={"filters": 8, "blocks": (1, 1, 1)}),
            "training": study.training.model_copy(update={"final_epochs": 1, **training}),
            "participation": study.participation.model_copy(update={"quorum": hospitals}),
        }
    )
    return Study.model_validate(study.model_dump()), sorted((folder / "sites").glob("*.toml"))


def simulated_encoders(study: Study, sites: list[Path], folder: Path) -> list[str]:
    """The encoder's digest after each round of an undisturbed simulation in this process."""
    [ledger] = run_arm(study, sites, "federated", folder, workers=2)
    return [committed.encoder for committed in Ledger(ledger).rounds(study.digest())]
