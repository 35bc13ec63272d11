"""What a federation is compared with, as variations of one study.

`federated`: the study itself. `local`: every site alone, with the same schedule, seed and number of rounds: a
federation of one, so the very same code. `fedavg`: everything shared, branches among the owners of a task (FedAvg,
McMahan et al. 2017, over all parameters), with as many passes over the data and no personal tuning at the end; it is
defined only for tasks with at least two owners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from polyward_client.site import Site
from polyward_shared.aggregation import Participation, Sharing
from polyward_shared.study import Study

Arm = Literal["local", "federated", "fedavg"]
ARMS: tuple[Arm, ...] = ("federated", "local", "fedavg")


def variation(study: Study, arm: Arm) -> Study:
    """The study that this arm runs."""
    match arm:
        case "federated":
            return study
        case "local":
            alone = study.participation.model_copy(update={"quorum": 1, "task_quorum": {}})
            return study.model_copy(update={"participation": alone, "sharing": Sharing()})
        case "fedavg":
            passes = study.training.epochs
            if study.training.schedule == "fedrep":
                passes += study.training.branch_epochs
            training = study.training.model_copy(update={"schedule": "fedper", "epochs": passes, "final_epochs": 0})
            everyone = Participation(
                quorum=study.participation.quorum,
                deadline_seconds=study.participation.deadline_seconds,
                rejoin_seconds=study.participation.rejoin_seconds,
            )
            return study.model_copy(
                update={"training": training, "sharing": Sharing(branches="task"), "participation": everyone}
            )


def shared_tasks(sites: Iterable[Site]) -> set[str]:
    """Tasks with at least two owners: those for which full averaging means something."""
    owners = Counter(task for site in sites for task in site.file.tasks)
    return {task for task, count in owners.items() if count >= 2}
