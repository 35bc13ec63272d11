"""The topologies that are compared: which studies are trained, and by which sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_client.site import Site, read_site
from polyward_deploy.comparison.plan import planned
from polyward_deploy.topologies import ARRANGEMENTS, arranged, arrangements_of, notes, variations
from polyward_shared.aggregation import Participation
from polyward_shared.problems import Problem
from polyward_shared.study import Image, Study
from polyward_shared.tasks import Binary, Regression, Segmentation, Task
from polyward_shared.topologies import Cascade, Topology, graph_of
from polyward_shared.training import Personal

TASKS: dict[str, Task] = {
    "lesion": Binary(kind="binary"),
    "size": Regression(kind="regression"),
    "outline": Segmentation(kind="segmentation"),
}
STUDY = Study(id="toy", rounds=2, image=Image(size=(64, 64)), tasks=TASKS, participation=Participation(quorum=2))


def site(folder: Path, name: str, *tasks: str, more: str = "") -> Site:
    """A site with nothing but its file."""
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\ntasks = {list(tasks)}\n{more}\n[data]\nroot = "data"\n', encoding="utf-8")
    return read_site(path)


def test_names_are_read_from_lists() -> None:
    assert arrangements_of("hybrid, single") == ("single", "hybrid")
    assert arrangements_of(",".join(ARRANGEMENTS)) == ARRANGEMENTS


def test_an_unknown_topology_is_one_clear_problem() -> None:
    with pytest.raises(
        Problem, match=r"^--topologies: found 'star'; expected some of single, parallel, cascaded, interacted, hybrid$"
    ):
        arrangements_of("parallel,star")
    with pytest.raises(Problem, match="names nothing"):
        arrangements_of(" , ")


def test_a_cascade_leads_from_the_mask_to_the_image_level_tasks() -> None:
    graph = graph_of(arranged(STUDY, "cascaded").topology, TASKS)
    assert {(edge.source, edge.target) for edge in graph.cascades} == {("outline", "lesion"), ("outline", "size")}


def test_nothing_is_trained_beside_what_is_compared() -> None:
    assert STUDY.personal.alone
    plain = STUDY.model_copy(update={"personal": Personal(alone=False)})
    assert arranged(STUDY, "parallel").digest() == plain.digest(), "nothing else is changed"


def test_edges_that_the_study_names_are_kept_where_the_preset_has_such() -> None:
    edge = Cascade(source="outline", target="lesion", detach=True)
    study = STUDY.model_copy(update={"topology": Topology(kind="cascaded", cascade=(edge,))})
    assert arranged(study, "hybrid").topology.cascade == (edge,)
    assert arranged(study, "interacted").topology == Topology(kind="interacted")


def test_a_preset_that_the_study_cannot_have_is_named() -> None:
    study = STUDY.model_copy(update={"tasks": {"lesion": TASKS["lesion"]}})
    with pytest.raises(Problem, match="the study toy as cascaded"):
        arranged(study, "cascaded")


def test_single_trains_each_task_among_its_owners_alone(tmp_path: Path) -> None:
    sites = [site(tmp_path, "a", "lesion"), site(tmp_path, "b", "lesion", "outline")]
    several = variations(STUDY, sites, ["single"])
    runs = planned(several, [0, 5], tmp_path / "out")
    first = {run.label: run for run in runs[:2]}
    assert {label: list(run.study.tasks) for label, run in first.items()} == {
        "lesion": ["lesion"],
        "outline": ["outline"],
    }
    assert {label: [read_site(path).name for path in run.sites] for label, run in first.items()} == {
        "lesion": ["a", "b"],
        "outline": ["b"],
    }
    assert {label: run.study.participation.quorum for label, run in first.items()} == {"lesion": 2, "outline": 1}
    b = read_site(first["outline"].sites[0])
    assert b.file.tasks == ("outline",)
    assert b.root == (tmp_path / "data").resolve()
    assert [run.study.seed for run in runs] == [0, 0, 5, 5]
    assert first["outline"].folder == tmp_path / "out" / "single" / "seed-0" / "outline"
    assert notes(STUDY, sites, ["single"]) == ["One site alone owns outline: there single is no federation."]
    assert notes(STUDY, sites, ["parallel"]) == []


def test_a_sites_own_topology_does_not_replace_the_compared_one(tmp_path: Path) -> None:
    own = site(tmp_path, "a", "lesion", "outline", more='topology = {kind = "cascaded"}\ndevice = {threads = 4}')
    assert own.file.topology is not None
    (run,) = planned(variations(STUDY, [own], ["parallel"]), [0], tmp_path / "out")
    seen = read_site(run.sites[0])
    assert seen.file.topology is None
    assert seen.file.device.threads == 1, "runs side by side have one each"
