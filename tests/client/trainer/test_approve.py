"""A site's own topology changes what stays there, and nothing of what leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyward_client.site import Site, read_site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.model import parts, shared_arrays, site_model
from polyward_client.trainer.tasks.segmentation import SegmentationKind
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

NAMES = ("bright", "grade", "mask")
OWN = {
    "study": "",
    "cascaded": '[topology]\nkind = "cascaded"',
    "interacted": '[topology]\nkind = "interacted"\nunit = "nddr"',
}


def sited(folder: Path, own: str, tasks: tuple[str, ...] = NAMES, data: str = "") -> Site:
    site = write_site(folder, tasks=tasks, images=5, toml=own)
    if data:
        site.path.write_text(site.path.read_text() + data)
        return read_site(site.path)
    return site


def test_sites_with_their_own_topologies_share_one_encoder(tmp_path: Path) -> None:
    study = make_study(tasks=NAMES)
    sites = {name: sited(tmp_path / name, own) for name, own in OWN.items()}
    approvals = {name: make_approval(study, site) for name, site in sites.items()}
    assert len({approval.schema.digest for approval in approvals.values()}) == 1
    models = {name: site_model(study, NAMES, site) for name, site in sites.items()}
    wanted = shared_arrays(models["study"], study)
    for model in models.values():
        found = shared_arrays(model, study)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert ["interaction" in parts(model) for model in models.values()] == [False, False, True]
    sizes = {name: sum(p.numel() for p in parts(model)["branches.bright"]) for name, model in models.items()}
    assert len(set(sizes.values())) == 3, "each topology has its own branches"


def test_a_sites_topology_replaces_the_studys(tmp_path: Path) -> None:
    study = make_study(tasks=NAMES, topology={"kind": "cascaded"})
    parallel = sited(tmp_path, '[topology]\nkind = "parallel"')
    model, plain = site_model(study, NAMES, parallel), make_study(tasks=NAMES)
    images = torch.rand(2, 1, 16, 16)
    wanted = site_model(plain, NAMES, sited(tmp_path / "plain", ""))(images)
    assert all(torch.equal(output, wanted[task]) for task, output in model(images).items())


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ('[topology]\nkind = "cascaded"\ncascade = [{source = "area", target = "mask"}]', "found 'area'"),
        (
            '[topology]\nkind = "cascaded"\ncascade = [{source = "mask", target = "bright"}, '
            '{source = "bright", target = "mask"}]',
            "in a circle",
        ),
        (
            '[topology]\nkind = "cascaded"\ncascade = [{source = "mask", target = "bright", passes = 5}]',
            "uncertainty by dropout needs a share above 0",
        ),
        ('[topology]\nkind = "parallel"\ninteract = [{tasks = ["bright", "mask"]}]', "has no such edges"),
    ],
)
def test_a_topology_that_the_study_cannot_have_is_named_with_the_sites_file(
    tmp_path: Path, own: str, words: str
) -> None:
    site = sited(tmp_path, own)
    with pytest.raises(Problem, match=words) as caught:
        make_approval(make_study(tasks=NAMES), site)
    assert str(site.path) in str(caught.value)


MIXED: dict[str, dict[str, Any]] = {
    "task": {"sharing": {"branches": "task"}},
    "taskset": {"sharing": {"branches": "taskset"}},
    "fedhca2": {"aggregation": {"rule": "fedhca2", "weighting": "uniform"}},
}


@pytest.mark.parametrize("changes", MIXED.values(), ids=MIXED)
def test_where_branches_are_mixed_all_need_the_same_edges(tmp_path: Path, changes: dict[str, Any]) -> None:
    study = make_study(tasks=NAMES, **changes)
    with pytest.raises(Problem, match="take the topology out"):
        make_approval(study, sited(tmp_path, OWN["cascaded"]))
    make_approval(study, sited(tmp_path / "without", ""))


def test_a_site_cannot_keep_a_model_that_the_study_does_not_train(tmp_path: Path) -> None:
    site = sited(tmp_path, '[policy]\nkeeps = "alone"')
    make_approval(make_study(tasks=NAMES), site)
    with pytest.raises(Problem, match=r"policy\.keeps: found 'alone'; expected a study with personal\.alone = true"):
        make_approval(make_study(tasks=NAMES, personal={"alone": False, "ditto": 0.1}), site)


@pytest.mark.parametrize(
    ("partial", "words"),
    [('mask = ["liver"]', "expected classes of a segmentation task: lesion"), ('bright = ["1"]', "it has none")],
)
def test_classes_that_masks_do_not_have_are_named(tmp_path: Path, partial: str, words: str) -> None:
    site = sited(tmp_path, "", data=f"[data.partial]\n{partial}\n")
    with pytest.raises(Problem, match=words):
        make_approval(make_study(tasks=NAMES), site)


def test_a_site_that_labels_some_classes_shares_the_same_encoder(tmp_path: Path) -> None:
    data = make_study(tasks=NAMES).model_dump(mode="json")
    data["tasks"]["mask"]["classes"] = ["lesion", "vessel", "organ"]
    study = Study.model_validate(data)
    whole, part = sited(tmp_path / "whole", ""), sited(tmp_path, "", data='[data.partial]\nmask = ["vessel"]\n')
    assert make_approval(study, part).schema == make_approval(study, whole).schema
    kinds = [site_model(study, NAMES, site).kinds["mask"] for site in (whole, part)]
    assert [kind.hidden for kind in kinds if isinstance(kind, SegmentationKind)] == [[], [1, 3]]
    assert [kind.channels for kind in kinds] == [4, 4]


def custom_site(folder: Path, name: str, size: list[int]) -> tuple[Study, Site]:
    path = f"tests.client.trainer.encoders.strangers:{name}"
    data = make_study(tasks=("bright",), image={"size": size}).model_dump(mode="json")
    study = Study.model_validate({**data, "encoder": {"kind": "custom", "path": path}})
    return study, sited(folder, f'[policy]\nencoders = ["{path}"]', ("bright",))


def test_what_cannot_run_is_found_before_it_is_approved(tmp_path: Path) -> None:
    make_approval(*custom_site(tmp_path / "sound", "Tiny", [16, 16]))
    study, site = custom_site(tmp_path, "Afraid", [16, 16])
    with pytest.raises(Problem, match=r"the study toy: its model for bright fails .*\(ValueError: too dark\)"):
        make_approval(study, site)


def test_a_custom_encoder_of_huge_images_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyward_client.trainer.approve.LARGEST_TRIAL", 255)
    make_approval(*custom_site(tmp_path, "Afraid", [16, 16]))


def test_trying_moves_no_generator_and_goes_without_side_inputs(tmp_path: Path) -> None:
    edge = {"source": "mask", "target": "bright", "passes": 3}
    data = make_study(tasks=NAMES, branches={"dropout": 0.5}).model_dump(mode="json")
    data["side"] = {"age": {"kind": "number"}, "sex": {"kind": "category", "classes": ["f", "m"]}}
    data["tasks"]["bright"]["side"] = ["age", "sex"]
    study = Study.model_validate({**data, "topology": {"kind": "cascaded", "cascade": [edge]}})
    site = sited(tmp_path, "")
    states = []
    for act in (lambda: make_approval(study, site), lambda: site_model(study, NAMES, site)):
        torch.manual_seed(0)
        act()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_site_without_tasks_has_nothing_to_approve(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"tasks: there are none yet; expected tasks of the study toy: "):
        make_approval(make_study(tasks=NAMES), sited(tmp_path, "", ()))
