"""A study and a site -> what the site approves: these tasks, and the schema of what may leave."""

from __future__ import annotations

from polyward_client.approvals import Approval
from polyward_client.site import Site
from polyward_client.trainer.model import schema_of
from polyward_shared.problems import Problem
from polyward_shared.study import Study


def make_approval(study: Study, site: Site) -> Approval:
    """The approval for the site's tasks, in the study's order. Raises `Problem` for a task that the study lacks."""
    if unknown := [task for task in site.file.tasks if task not in study.tasks]:
        raise Problem(
            str(site.path),
            f"tasks: found {', '.join(unknown)}",
            expected=f"tasks of the study {study.id}: {', '.join(study.tasks)}",
            remedy="name in the site's tasks only those that the study has",
        )
    tasks = tuple(task for task in study.tasks if task in site.file.tasks)
    return Approval(study, tasks, schema_of(study, tasks))
