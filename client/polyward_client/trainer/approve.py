"""A study and a site -> what the site approves: these tasks, and the schema of what may leave."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from polyward_client.approvals import Approval
from polyward_client.site import Site
from polyward_client.trainer.encoders import small_study
from polyward_client.trainer.model import schema_of, site_model
from polyward_shared.problems import Problem
from polyward_shared.study import Study

LARGEST_TRIAL = 2_000_000  # pixels or voxels of the image that is tried


def make_approval(study: Study, site: Site) -> Approval:
    """The approval for the site's tasks, in the study's order.

    Raises `Problem` for what the study lacks, and for a model that cannot answer an image.
    """
    if not site.file.tasks:
        raise Problem(
            str(site.path),
            "tasks: there are none yet",
            expected=f"tasks of the study {study.id}: {', '.join(study.tasks)}",
            remedy="name those for which this site has labels",
        )
    if unknown := [task for task in site.file.tasks if task not in study.tasks]:
        raise Problem(
            str(site.path),
            f"tasks: found {', '.join(unknown)}",
            expected=f"tasks of the study {study.id}: {', '.join(study.tasks)}",
            remedy="name in the site's tasks only those that the study has",
        )
    if site.file.topology is not None:
        _check_topology(study, site)
    if site.file.policy.keeps == "alone" and not study.personal.alone:
        raise Problem(
            str(site.path),
            "policy.keeps: found 'alone'",
            expected="a study with personal.alone = true",
            remedy='set keeps to "better" or "federated": in this study no site trains a model of its own',
        )
    for task, names in site.file.data.partial.items():
        known = getattr(study.tasks[task], "classes", ())
        if study.tasks[task].kind != "segmentation" or set(names) - set(known):
            raise Problem(
                str(site.path),
                f"data.partial.{task}: found {', '.join(names)}",
                expected=f"classes of a segmentation task: {', '.join(known) or 'it has none'}",
            )
    tasks = tuple(task for task in study.tasks if task in site.file.tasks)
    with torch.random.fork_rng(devices=[]):  # a trial must not change what is drawn later
        _try(study, tasks, site)
    return Approval(study, tasks, schema_of(site_model(study, tasks, site), study))


@torch.no_grad()
def _try(study: Study, tasks: Sequence[str], site: Site) -> None:
    """Answers one black image without side inputs, so that no round has to find out what cannot run.

    Small, where the encoder is one of ours; an encoder of one's own gets the study's size, unless that takes too long.
    """
    small = small_study(study)
    size = small.image.seen
    if math.prod(size) > LARGEST_TRIAL:
        return
    model = site_model(small, tasks, site).eval()
    names = model.input_adapter.names
    side = torch.full((1, len(names)), math.nan) if names else None
    try:
        model(torch.zeros(1, small.image.channels, *size), side=side)
    except Exception as error:  # a stranger's encoder may raise anything
        raise Problem(
            f"the study {study.id}",
            f"its model for {', '.join(tasks)} fails on a black image of size {list(size)} "
            f"({type(error).__name__}: {error})",
            remedy="correct the study's encoder or topology, or the site's own topology; nothing was approved",
        ) from error


def _check_topology(study: Study, site: Site) -> None:
    if study.sharing.branches != "site" or study.aggregation.rule == "fedhca2":
        raise Problem(
            str(site.path),
            "topology: this study mixes the branches of several sites, so all need the same edges",
            remedy="take the topology out of the site's file",
        )
    try:
        study.graph(site.file.topology or study.topology)
    except ValueError as error:
        raise Problem(str(site.path), str(error)) from None
