"""Which methods can be compared here, and what is said of those that cannot."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from polyward_client.site import Site
from polyward_deploy.cli import app
from polyward_deploy.hospitals import write_hospitals
from polyward_deploy.methods import METHODS, shared_tasks
from polyward_deploy.selection import chosen, method_table, obstacle, variations
from polyward_shared.problems import Problem
from polyward_shared.topologies import Topology
from tests.deploy.test_methods import PLAIN
from tests.deploy.test_topologies import site


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Two that own the lesion, one of them the outline too."""
    return [site(tmp_path, "a", "lesion"), site(tmp_path, "b", "lesion", "outline")]


def test_methods_are_read_from_a_list_and_the_reference_is_always_there() -> None:
    assert chosen("tasks, fedper") == ("local", "fedper", "tasks")
    assert chosen("all") == tuple(METHODS)


def test_an_unknown_method_is_told_with_all_that_are_known() -> None:
    with pytest.raises(Problem) as caught:
        chosen("fedper,fedsgd")
    assert str(caught.value).startswith("--methods: found 'fedsgd'; expected all, or some of local, fedavg, fedper,")
    assert all(name in str(caught.value) for name in METHODS)
    with pytest.raises(Problem, match="names nothing"):
        chosen(" ,")


def test_a_method_that_needs_more_sites_is_refused_with_the_reason(sites: list[Site]) -> None:
    with pytest.raises(Problem, match=r"--methods krum: cannot be here: it needs the updates of 5 sites.*there are 2"):
        variations(PLAIN, sites, ["local", "krum"], leave_out=False)
    with pytest.raises(Problem, match="no two have"):
        variations(PLAIN, sites, ["taskset"], leave_out=False)
    assert obstacle("clusters", PLAIN, sites) == ""


def test_all_leaves_out_what_cannot_be_and_says_so(sites: list[Site]) -> None:
    found, said = variations(PLAIN, sites, chosen("all"), leave_out=True)
    names = [variation.name for variation in found]
    assert set(METHODS) - set(names) == {"krum", "median", "trimmed_mean", "taskset"}
    assert any(line.startswith("krum is left out: it needs the updates of 5 sites") for line in said)
    assert "4 passes over the data in each of 2 rounds" in said[0]


def test_local_is_a_federation_of_each_site_alone(sites: list[Site]) -> None:
    (local, fedavg), _ = variations(PLAIN, sites, ["local", "fedavg"], leave_out=False)
    assert [(part.label, [site.name for site in part.sites]) for part in local.parts] == [("a", ["a"]), ("b", ["b"])]
    assert fedavg.shown == frozenset({"lesion"})
    assert local.shown is None
    assert len(fedavg.parts) == 1


def test_averaging_branches_needs_a_task_with_two_owners(tmp_path: Path, sites: list[Site]) -> None:
    assert shared_tasks(PLAIN, sites) == {"lesion"}
    lonely = [sites[0], site(tmp_path, "c", "outline")]
    assert "no task here has two" in obstacle("fedavg", PLAIN, lonely)
    assert obstacle("fedper", PLAIN, lonely) == ""
    interacted = PLAIN.model_copy(update={"topology": Topology(kind="interacted")})
    assert shared_tasks(interacted, sites) == frozenset()
    assert "exchange features" in obstacle("task", interacted, sites), "the study's own words"


def test_the_figures_of_ditto_are_those_of_its_personal_model(sites: list[Site]) -> None:
    found, _ = variations(PLAIN, sites, ["fedper", "ditto"], leave_out=False)
    assert [variation.model for variation in found] == ["federated", "ditto"]


def test_the_catalogue_says_what_each_rule_asks() -> None:
    console = Console(record=True, width=120, file=StringIO())
    console.print(method_table())
    lines = {line.split()[0]: line for line in console.export_text().splitlines() if line.strip()}
    assert lines["fedper"].split()[-5:] == ["a", "sum", "one", "yes", "1"]
    assert lines["krum"].split()[-4:] == ["all", "one", "no", "5"]
    assert lines["clusters"].split()[-4:] == ["all", "several", "no", "2"]


def test_the_command_refuses_before_anything_is_trained(tmp_path: Path) -> None:
    study = write_hospitals(tmp_path / "toy", hospitals=2, images=40, size=16)
    out = tmp_path / "out"
    for wrong, said in (("fedsgd", "found 'fedsgd'"), ("krum", "needs the updates of 5 sites")):
        done = CliRunner().invoke(app, ["compare", str(study), "--methods", wrong, "--out", str(out)])
        assert isinstance(done.exception, Problem)
        assert said in str(done.exception)
    assert not out.exists()
