"""Which models answer, and what is said where none can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polyward_client.approvals import write_approval
from polyward_client.site import Site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.dataset import load_dataset
from polyward_client.trainer.evaluate import gathered
from polyward_client.trainer.finished import load_finished
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.vault import open_vault, side_by_side, taken_apart
from polyward_shared.messages import Kept
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.finished import finish_study
from tests.support.images import make_study, write_site

NAMES = ("bright", "area")


def test_answers_are_those_of_training_s_own_evaluation(finished_study: tuple[Site, Study, Path]) -> None:
    site, study, _ = finished_study
    finished = load_finished(site, study)
    data = load_dataset(read_manifest(site, study, finished.tasks), study)
    given = finished.outputs(data.images[data.cases("test")], None)
    assert tuple(given) == tuple(study.tasks)
    for task in ("bright", "shape", "grade", "area"):
        known = gathered(finished.model(task), data, study, "test", torch.device("cpu"))[task]
        assert torch.allclose(given[task], known.answers, atol=1e-5)


def test_each_task_is_answered_by_the_model_that_it_keeps(tmp_path: Path) -> None:
    site, study, _ = finish_study(tmp_path, tasks=NAMES, toml="[policy]\nminimum_count = 2\n")
    vault = open_vault(site, study.digest())
    entry = vault.final()
    assert entry is not None
    federated = taken_apart(vault.arrays(entry))["federated"]
    head = "branches.area.head.bias"
    alone = {**federated, head: federated[head] + np.float32(1)}
    kept: dict[str, Kept] = {"bright": "federated", "area": "alone"}
    states = side_by_side({"federated": federated, "alone": alone})
    vault.keep_final(states, round=1, state_digest=entry.state_digest, tasks=NAMES, kept=kept)
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    own, theirs = (load_finished(site, study, which) for which in ("kept", "federated"))
    assert own.answers == kept
    one, other = own.outputs(images, None), theirs.outputs(images, None)
    assert torch.equal(one["bright"], other["bright"])
    assert torch.allclose(one["area"], other["area"] + 1, atol=1e-6)
    only = load_finished(site, study, tasks=["bright"])
    assert (only.tasks, tuple(only.models)) == (("bright",), ("federated",))


def test_what_cannot_answer_says_why(tmp_path: Path, finished_study: tuple[Site, Study, Path]) -> None:
    site, study = write_site(tmp_path, tasks=NAMES), make_study(tasks=NAMES)
    with pytest.raises(Problem, match="is not approved at this site"):
        load_finished(site, study)
    write_approval(site.approved, make_approval(study, site))
    with pytest.raises(Problem, match="is not finished at this site"):
        load_finished(site, study)
    place, whole, _ = finished_study
    with pytest.raises(Problem, match="'colour'; expected one of bright, shape"):
        load_finished(place, whole, tasks=["colour"])
