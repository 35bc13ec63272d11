"""A small study that a site has finished: one round, the final tuning, models in the vault."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from polyward_client.approvals import write_approval
from polyward_client.port.interface import Progress, Work
from polyward_client.site import Site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.trainer import LocalTrainer
from polyward_shared.states import read_state
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study, write_site


def quiet(progress: Progress) -> None:
    pass


def finish_study(
    folder: Path, *, tasks: Sequence[str] = tuple(TASKS), toml: str = "", images: int = 30, **changes: Any
) -> tuple[Site, Study, Path]:
    """The site, the study, and the study's file."""
    study = make_study(tasks=tasks, **{"rounds": 1, **changes})
    site = write_site(folder, tasks=tasks, toml=toml, images=images)
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(json.loads(study.model_dump_json(exclude_none=True))))
    finish(site, study)
    return site, study, path


def finish(site: Site, study: Study) -> None:
    """Approves, trains one round from the first state, and finishes."""
    approval = make_approval(study, site)
    write_approval(site.approved, approval)
    trainer = LocalTrainer(site)

    def order(state: str) -> Work:
        digest = approval.schema.state_digest(approval.schema.pack(read_state(Path(state))))
        return Work(study=study.digest(), round=1, state=state, state_digest=digest)

    trained = trainer.train(order(trainer.describe(study.digest()).first), quiet)
    trainer.finish(order(str(trained.update)), quiet)
