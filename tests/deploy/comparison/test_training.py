"""Nothing is trained twice, an interruption costs a round at most, and what fails fails alone."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from rich.console import Console

from polyward_client.site import Site
from polyward_deploy.comparison import training
from polyward_deploy.comparison.comparing import compare
from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.comparison.plan import Part, Run, Variation, planned, seeds_of
from polyward_deploy.comparison.training import News
from polyward_deploy.methods import METHODS
from polyward_deploy.selection import COMPARED, variations
from polyward_deploy.simulate import Watch, run_arm
from polyward_deploy.topologies import TOPOLOGIES
from polyward_deploy.topologies import variations as topologies
from polyward_server.records import Event
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.deploy.comparison.federation import events

QUIET = Console(quiet=True)
Federation = tuple[Study, list[Site]]


def by_methods(federation: Federation, names: list[str], seeds: list[int], folder: Path) -> Comparison:
    study, sites = federation
    ways, said = variations(study, sites, names, leave_out=False)
    return compare(COMPARED, study, sites, ways, seeds, folder, processes=1, talk=QUIET, notes=said)


def broken(federation: Federation) -> Variation:
    """A study that needs more sites than there are."""
    study, sites = federation
    many = study.model_copy(update={"participation": study.participation.model_copy(update={"quorum": 9})})
    return Variation(name="broken", described="", parts=(Part(study=many, sites=tuple(sites)),))


def test_seeds_are_read_from_a_list() -> None:
    assert seeds_of("2,0,2") == (2, 0)
    with pytest.raises(Problem, match=r"--seeds: found '0,x'"):
        seeds_of("0,x")


def test_a_finished_run_is_read_back_and_a_new_seed_trains_alone(federation: Federation, tmp_path: Path) -> None:
    study, sites = federation
    study = study.model_copy(update={"rounds": 1})
    several = topologies(study, sites, ("single", "cascaded"))
    first = compare(TOPOLOGIES, study, sites, several, [0], tmp_path, processes=1, talk=QUIET)
    runs = planned(several, [0, 1], tmp_path)
    assert [run.finished for run in runs] == [True] * 3 + [False] * 3
    before = [events(run) for run in runs[:3]]
    both = compare(TOPOLOGIES, study, sites, several[1:], [0, 1], tmp_path, processes=1, talk=QUIET)
    assert [events(run) for run in runs[:3]] == before, "nothing was asked of a site again"
    assert [run.finished for run in runs[3:]] == [False, False, True]
    cascaded = {each for each in first.figures if each.variation == "cascaded"}
    assert cascaded == {each for each in both.figures if each.seed == 0}
    assert {each.seed for each in both.figures} == {0, 1}
    found = {(each.variation, each.site, each.task) for each in first.figures}
    assert ("cascaded", "harbour", "lesion_suspicious") in found, "a site without the cascade's source takes part"
    assert ("single", "riverside", "structures") in found, "one owner is enough for a task alone"
    with pytest.raises(Problem, match="another study or other sites"):
        compare(TOPOLOGIES, study, sites[:1], several[1:], [0], tmp_path, processes=1, talk=QUIET)


def test_an_interrupted_run_goes_on(federation: Federation, tmp_path: Path) -> None:
    study, sites = federation
    several = topologies(study, sites, ["parallel"])
    (run,) = planned(several, [0], tmp_path)

    def interrupted(_: str, event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_arm(run.study, run.sites, "federated", run.folder, workers=1, watch=Watch(event=interrupted))
    before = events(run)
    assert not run.finished
    found = compare(TOPOLOGIES, study, sites, several, [0], tmp_path, processes=1, talk=QUIET)
    assert events(run)[: len(before)] == before
    assert sum(what == "committed" and number == 1 for _, number, _, what in events(run)) == 1
    assert run.finished
    assert found.figures
    assert json.loads(found.model_dump_json())["seeds"] == [0]


def test_methods_are_compared_with_every_site_alone(federation: Federation, tmp_path: Path) -> None:
    found = by_methods(federation, ["local", "fedavg", "fedper"], [0], tmp_path)
    cells = {name: {(e.site, e.task) for e in found.figures if e.variation == name} for name in found.names}
    lesion = {("harbour", "lesion_suspicious"), ("riverside", "lesion_suspicious")}
    assert cells["fedper"] == cells["local"] == lesion | {("riverside", "structures")}
    assert cells["fedavg"] == lesion, "one site alone has the other task"
    assert {(each.round, each.variation) for each in found.course} == {
        (number, name) for number in (1, 2) for name in found.names
    }
    costs = {cost.variation: cost for cost in found.costs}
    assert costs["local"].bytes_up == 0 < costs["fedper"].bytes_up < costs["fedavg"].bytes_up
    assert all(cost.seconds > 0 for cost in found.costs)


def test_a_run_that_fails_is_named_and_the_others_are_compared(federation: Federation, tmp_path: Path) -> None:
    study, sites = federation
    good = Variation(name="good", described="", parts=(Part(study=METHODS["fedper"].of(study), sites=tuple(sites)),))
    several = [broken(federation), good]
    found = compare(COMPARED, study, sites, several, [0], tmp_path, processes=1, talk=QUIET)
    assert found.names == ("good",)
    (failure,) = found.failures
    assert failure.startswith("broken, seed 0: participation.quorum: found 9; there are 2 sites")
    with pytest.raises(Problem, match="every method has a run that failed"):
        compare(COMPARED, study, sites, several[:1], [0], tmp_path, processes=1, talk=QUIET)


def test_an_edited_manifest_makes_another_comparison(federation: Federation, tmp_path: Path) -> None:
    study, sites = federation
    with pytest.raises(Problem, match="failed"):
        compare(COMPARED, study, sites, [broken(federation)], [0], tmp_path, processes=1, talk=QUIET)
    text = sites[0].manifest.read_text(encoding="utf-8")
    try:
        sites[0].manifest.write_text(text.replace(",train,", ",val,", 1), encoding="utf-8")
        with pytest.raises(Problem, match="another study or other sites"):
            compare(COMPARED, study, sites, [broken(federation)], [0], tmp_path, processes=1, talk=QUIET)
    finally:
        sites[0].manifest.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_runs_in_processes_end_with_an_interruption_and_leave_what_in_one_process_they_would(
    federation: Federation, tmp_path: Path
) -> None:
    """Two at once, cut when the first of them has a round; then one of them goes on beside a broken one."""
    study, sites = federation
    long = METHODS["fedper"].of(study.model_copy(update={"rounds": 8}))  # it shall not end before it is cut
    good = Variation(name="good", described="", parts=(Part(study=long, sites=tuple(sites)),))
    runs = planned([good], [0, 1], tmp_path / "many")
    cut: list[Run] = []

    def hear(run: Run, news: News) -> None:
        if news.what == "round":
            cut.append(run)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training._at_once(runs, 2, hear)
    assert multiprocessing.active_children() == []
    assert not any(run.finished for run in runs)
    (first,) = cut
    before = events(first)
    (hopeless,) = planned([broken(federation)], [0], tmp_path / "many")
    assert list(training.train([hopeless, first], processes=2, talk=QUIET)) == ["broken, seed 0"]
    assert events(first)[: len(before)] == before, "it went on where it was cut"
    (alone,) = planned([good], [first.seed], tmp_path / "one")
    assert training.train([alone], processes=1, talk=QUIET) == {}
    assert [e for e in events(alone) if e[3] == "committed"][-1][1] == 8
    registries = [{path.name for path in (run.folder / "registry").iterdir()} for run in (first, alone)]
    assert registries[0] == registries[1], "the same encoders, byte for byte"


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_failed_run(federation: Federation, tmp_path: Path) -> None:
    study, sites = federation
    long = METHODS["fedper"].of(study.model_copy(update={"rounds": 8}))
    part = Part(study=long, sites=tuple(sites))
    (run,) = planned([Variation(name="good", described="", parts=(part,))], [0], tmp_path)
    said: list[str] = []

    def hear(run: Run, news: News) -> None:
        if news.what == "failed":
            said.append(news.text)
        elif news.what == "round":
            (child,) = multiprocessing.active_children()
            child.kill()

    training._at_once([run], 2, hear)
    assert said == ["its process ended with exit code -9"]
