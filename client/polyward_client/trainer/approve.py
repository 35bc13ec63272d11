"""A study and a site -> what the site approves: these tasks, and the schema of what may leave."""

from __future__ import annotations

from polyward_client.approvals import Approval
from polyward_client.site import Site
from polyward_client.trainer.model import schema_of, site_model
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
    if site.file.topology is not None:
        _check_topology(study, site)
    for task, names in site.file.data.partial.items():
        known = getattr(study.tasks[task], "classes", ())
        if study.tasks[task].kind != "segmentation" or set(names) - set(known):
            raise Problem(
                str(site.path),
                f"data.partial.{task}: found {', '.join(names)}",
                expected=f"classes of a segmentation task: {', '.join(known) or 'it has none'}",
            )
    tasks = tuple(task for task in study.tasks if task in site.file.tasks)
    return Approval(study, tasks, schema_of(site_model(study, tasks, site), study))


def _check_topology(study: Study, site: Site) -> None:
    if study.sharing.branches == "task":
        raise Problem(
            str(site.path),
            "topology: branches are shared among the owners of a task in this study, so all need the same edges",
            remedy="take the topology out of the site's file",
        )
    try:
        study.graph(site.file.topology or study.topology)
    except ValueError as error:
        raise Problem(str(site.path), str(error)) from None
