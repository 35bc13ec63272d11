"""What a federation is compared with, as variations of one study.

`federated`: the study itself. `local`: every site alone, with the same schedule, seed and number of rounds: a
federation of one, so the very same code. `fedavg`: everything shared, branches among the owners of a task, with as many
passes over the data and no personal tuning at the end; it is defined only for tasks with at least two owners.
"""

from __future__ import annotations

from typing import Literal

from polyward_deploy.methods import METHODS
from polyward_shared.study import Study

Arm = Literal["local", "federated", "fedavg"]
ARMS: tuple[Arm, ...] = ("federated", "local", "fedavg")


def variation(study: Study, arm: Arm) -> Study:
    """The study that this arm runs. Raises `Problem` where the study's rules exclude it."""
    match arm:
        case "federated":
            return study
        case "local":  # by the study's own schedule, so that nothing but the others is missing
            return METHODS[arm].of(study).model_copy(update={"training": study.training})
        case "fedavg":
            return METHODS[arm].of(study)
