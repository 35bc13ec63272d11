"""Topologies side by side: which studies are trained, that nothing is trained twice, and the figures over seeds."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from polyward_client.site import read_site
from polyward_deploy.hospitals import write_hospitals
from polyward_deploy.results import ABSENT
from polyward_deploy.simulate import Watch, run_arm
from polyward_deploy.topologies.averages import (
    Average,
    average,
    caveat,
    sentences,
    site_lines,
    task_lines,
    write_comparison,
)
from polyward_deploy.topologies.page import page
from polyward_deploy.topologies.plan import (
    ARRANGEMENTS,
    Arrangement,
    Run,
    arranged,
    arrangements_of,
    planned,
    seeds_of,
)
from polyward_deploy.topologies.runs import Comparison, Figure, compare_topologies
from polyward_deploy.topologies.terminal import print_comparison
from polyward_server.ledger import Event
from polyward_shared.problems import Problem
from polyward_shared.study import Image, Study, read_study
from polyward_shared.tasks import Binary, Regression, Segmentation, Task
from polyward_shared.topologies import Cascade, Topology, graph_of

QUIET = Console(quiet=True)
TASKS: dict[str, Task] = {
    "lesion": Binary(kind="binary"),
    "size": Regression(kind="regression"),
    "outline": Segmentation(kind="segmentation"),
}
STUDY = Study(id="toy", rounds=2, image=Image(size=(64, 64)), tasks=TASKS)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[Path]]:
    """Two generated sites, one without the mask; a study of two quick rounds."""
    path = write_hospitals(tmp_path_factory.mktemp("hospitals"), hospitals=2, images=120, size=16)
    study = read_study(path)
    training = study.training.model_copy(update={"epochs": 1, "final_epochs": 0})
    encoder = study.encoder.model_copy(update={"filters": 4, "blocks": (1, 1), "groups": 4})
    chosen = {name: study.tasks[name] for name in ("lesion_suspicious", "structures")}
    files = sorted((path.parent / "sites").glob("*.toml"))
    for file in files:
        text = file.read_text(encoding="utf-8").replace(
            '"lesion_suspicious", "grade", "organ_size"', '"lesion_suspicious"'
        )
        file.write_text(text + "\n[policy]\nminimum_count = 1\n", encoding="utf-8")  # few cases, all generated
    return study.model_copy(update={"rounds": 2, "training": training, "encoder": encoder, "tasks": chosen}), files


def events(run: Run) -> list[tuple[object, ...]]:
    """Everything that a run's ledger has written down, with its time."""
    with sqlite3.connect(run.folder / "ledger.db") as db:
        found = list(db.execute("select at, round, site, what from events order by id"))
    db.close()
    return found


def comparison(figures: dict[Arrangement, list[dict[str, tuple[float, int]]]], task: str, metric: str) -> Comparison:
    """`figures`: by topology, for each seed, value and cases by site."""
    found = [
        Figure(name, seed, site, task, metric, value, count)
        for name, seeds in figures.items()
        for seed, sites in enumerate(seeds)
        for site, (value, count) in sites.items()
    ]
    return Comparison(
        study=STUDY,
        arrangements=tuple(figures),
        seeds=tuple(range(max(map(len, figures.values())))),
        started="2026-03-01T10:20:30+00:00",
        seconds=75.2,
        machine="Linux x86_64, 2 cores",
        generated=True,
        software={"torch": "2.13.0"},
        owners={task: tuple(sorted({each.site for each in found}))},
        figures=tuple(found),
    )


LESION = comparison(
    {
        "parallel": [{"a": (0.5, 10), "b": (0.7, 30)}, {"a": (0.7, 10), "b": (0.7, 30)}],
        "cascaded": [{"a": (0.7, 10), "b": (0.9, 30)}, {"a": (0.9, 10), "b": (0.82, 30)}],
    },
    "lesion",
    "auroc",
)


def test_mean_and_standard_deviation_over_seeds() -> None:
    found = average([0.5, 0.7, 0.9])
    assert found.mean == pytest.approx(0.7)
    assert found.sd == pytest.approx(0.2)
    assert found.seeds == 3
    assert average([0.5]) == Average(0.5, None, 1)


def test_a_site_has_its_own_mean_for_each_topology() -> None:
    a, b = site_lines(LESION)
    assert (a.site, a.count, b.site, b.count) == ("a", 10, "b", 30)
    assert a.averages["parallel"].mean == pytest.approx(0.6)
    assert a.averages["parallel"].sd == pytest.approx(0.2 / 2**0.5)
    assert a.best == b.best == {"cascaded"}


def test_over_sites_cases_are_weights_and_the_gain_is_taken_seed_by_seed() -> None:
    (line,) = task_lines(LESION)
    assert line.count == 40
    assert line.averages["parallel"].mean == pytest.approx((0.65 + 0.7) / 2)
    assert line.averages["cascaded"].mean == pytest.approx((0.85 + 0.84) / 2)
    assert line.gains["cascaded"].mean == pytest.approx((0.2 + 0.14) / 2)
    assert line.gains["cascaded"].sd == pytest.approx(0.06 / 2**0.5)
    assert "parallel" not in line.gains


def test_a_smaller_error_is_a_gain() -> None:
    (line,) = task_lines(comparison({"parallel": [{"a": (3.0, 9)}], "hybrid": [{"a": (2.5, 9)}]}, "size", "mae"))
    assert line.gains["hybrid"].mean == pytest.approx(0.5)
    assert line.best == {"hybrid"}


def test_a_site_without_a_figure_in_one_run_is_in_no_mean_over_sites() -> None:
    found = comparison(
        {"parallel": [{"a": (0.5, 10)}], "hybrid": [{"a": (0.6, 10), "b": (0.0, 90)}]}, "outline", "dice"
    )
    (line,) = task_lines(found)
    assert line.count == 10
    assert line.averages["hybrid"].mean == pytest.approx(0.6)
    assert "parallel" not in site_lines(found)[1].averages


def test_a_mean_over_fewer_seeds_is_not_the_best() -> None:
    found = comparison(
        {
            "parallel": [{"a": (0.5, 9)}, {"a": (0.5, 9)}],
            "single": [{"a": (0.4, 9)}, {"a": (0.4, 9)}],
            "hybrid": [{}, {"a": (0.9, 9)}],
        },
        "lesion",
        "auroc",
    )
    (line,) = site_lines(found)
    assert line.best == {"parallel"}
    assert line.averages["hybrid"].seeds == 1


def test_a_difference_is_clear_only_beyond_the_spread_of_the_seeds() -> None:
    assert average([0.10, 0.11, 0.09]).clear
    assert not average([0.10, -0.05, 0.04]).clear
    assert not average([0.10]).clear
    assert average([0.1, 0.14, 0.12, 0.02]).clear, "t = 3.60 where 3.18 is needed"
    assert not average([0.1, 0.14, 0.02]).clear, "t = 2.46 where 4.30 is needed"


def test_sentences_name_the_winner_and_what_the_seeds_leave_open() -> None:
    assert sentences(LESION) == [
        "lesion: cascaded has the best mean, +0.170 ± 0.042 against parallel; beyond the spread of the seeds: nothing."
    ]
    steady = comparison(
        {
            "single": [{"a": (0.4, 9)}, {"a": (0.5, 9)}, {"a": (0.6, 9)}],
            "parallel": [{"a": (0.5, 9)}, {"a": (0.6, 9)}, {"a": (0.7, 9)}],
        },
        "lesion",
        "auroc",
    )
    assert sentences(steady) == ["lesion: parallel has the best mean; beyond the spread of the seeds: single worse."]


def test_one_seed_is_said_to_tell_nothing_about_spread() -> None:
    one = LESION.model_copy(update={"seeds": (0,), "figures": tuple(e for e in LESION.figures if e.seed == 0)})
    assert caveat(one).startswith("One seed tells nothing about spread")
    assert sentences(one) == ["lesion: cascaded has the best mean, +0.200 against parallel."]
    assert "over 2 seeds" in caveat(LESION)


def test_the_terminal_shows_the_best_in_bold() -> None:
    console = Console(record=True, width=80, force_terminal=True, file=StringIO())
    print_comparison(console, LESION)
    styled = console.export_text(styles=True, clear=False)
    assert "\x1b[1m0.845\x1b[0m" in styled
    assert "\x1b[1m0.675" not in styled
    plain = console.export_text()
    assert re.search(r"lesion +0\.675 +0\.845 *\n +auroc↑  n = 40 +±0\.035 +±0\.007", plain)
    assert re.search(rf"gain over parallel +{ABSENT} +\+0\.170 *\n +±0\.042", plain)
    assert "…" not in plain, "nothing is cut off on 80 columns"


def test_files_hold_every_figure_and_the_means(tmp_path: Path) -> None:
    write_comparison(tmp_path, LESION)
    assert Comparison.model_validate_json((tmp_path / "topologies.json").read_bytes()) == LESION
    with (tmp_path / "figures.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["site"], row["topology"]): row for row in csv.DictReader(file)}
    assert float(rows["", "cascaded"]["gain"]) == pytest.approx(0.17)
    assert rows["", "parallel"]["gain"] == ""
    assert (rows["b", "cascaded"]["best"], rows["b", "parallel"]["best"]) == ("1", "0")


def test_the_page_is_whole_and_asks_nothing_of_the_network() -> None:
    text = page(LESION)
    assert text == page(LESION)
    assert text.count("<svg") == 1
    assert "--series-1: #0067a8" in text, "the report's style sheet"
    assert 'best">0.845<span class="under">± 0.007</span>' in text
    assert "Generated images." in text
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", text)
    assert "cascaded 0.845 ± 0.007" in text, "the plot in words"
    assert 'class="better"' not in text, "a gain within the spread of the seeds has no colour"


def test_names_and_seeds_are_read_from_lists() -> None:
    assert arrangements_of("hybrid, single") == ("single", "hybrid")
    assert seeds_of("2,0,2") == (2, 0)
    assert arrangements_of(",".join(ARRANGEMENTS)) == ARRANGEMENTS


def test_an_unknown_topology_is_one_clear_problem() -> None:
    with pytest.raises(
        Problem, match=r"^--topologies: found 'star'; expected some of single, parallel, cascaded, interacted, hybrid$"
    ):
        arrangements_of("parallel,star")
    with pytest.raises(Problem, match="names nothing"):
        arrangements_of(" , ")
    with pytest.raises(Problem, match=r"--seeds: found '0,x'"):
        seeds_of("0,x")


def test_a_cascade_leads_from_the_mask_to_the_image_level_tasks() -> None:
    graph = graph_of(arranged(STUDY, "cascaded", 3).topology, TASKS)
    assert {(edge.source, edge.target) for edge in graph.cascades} == {("outline", "lesion"), ("outline", "size")}
    assert arranged(STUDY, "cascaded", 3).seed == 3
    assert arranged(STUDY, "parallel", 0).digest() == STUDY.digest(), "nothing else is changed"


def test_edges_that_the_study_names_are_kept_where_the_preset_has_such() -> None:
    edge = Cascade(source="outline", target="lesion", detach=True)
    study = STUDY.model_copy(update={"topology": Topology(kind="cascaded", cascade=(edge,))})
    assert arranged(study, "hybrid", 0).topology.cascade == (edge,)
    assert arranged(study, "interacted", 0).topology == Topology(kind="interacted")


def test_a_preset_that_the_study_cannot_have_is_named() -> None:
    study = STUDY.model_copy(update={"tasks": {"lesion": TASKS["lesion"]}})
    with pytest.raises(Problem, match="the study toy as cascaded"):
        arranged(study, "cascaded", 0)


def test_single_trains_each_task_among_its_owners_alone(federation: tuple[Study, list[Path]], tmp_path: Path) -> None:
    study, files = federation
    runs = planned(study, files, ["single"], [0, 5], tmp_path)
    first = {next(iter(run.study.tasks)): run for run in runs[:2]}
    assert {name: [read_site(path).name for path in run.sites] for name, run in first.items()} == {
        "lesion_suspicious": ["harbour", "riverside"],
        "structures": ["riverside"],
    }
    assert {name: run.study.participation.quorum for name, run in first.items()} == {
        "lesion_suspicious": 2,
        "structures": 1,
    }
    riverside = read_site(first["structures"].sites[0])
    assert riverside.file.tasks == ("structures",)
    assert riverside.manifest.is_file()
    assert [run.study.seed for run in runs] == [0, 0, 5, 5]


def test_a_sites_own_topology_does_not_replace_the_compared_one(
    federation: tuple[Study, list[Path]], tmp_path: Path
) -> None:
    study, files = federation
    own = tmp_path / "own.toml"
    text = files[1].read_text(encoding="utf-8").replace("../data", str(files[1].parent.parent / "data"))
    own.write_text(f'{text}\n[topology]\nkind = "cascaded"\n', encoding="utf-8")
    assert read_site(own).file.topology is not None
    (run,) = planned(study, [own], ["parallel"], [0], tmp_path / "out")
    assert read_site(run.sites[0]).file.topology is None


def test_a_finished_run_is_read_back_and_a_new_seed_trains_alone(
    federation: tuple[Study, list[Path]], tmp_path: Path
) -> None:
    study, files = federation
    study = study.model_copy(update={"rounds": 1})
    first = compare_topologies(study, files, ("single", "cascaded"), [0], tmp_path, workers=1, talk=QUIET)
    runs = planned(study, files, ("single", "cascaded"), [0, 1], tmp_path)
    assert [run.finished for run in runs] == [True] * 3 + [False] * 3
    before = [events(run) for run in runs[:3]]
    both = compare_topologies(study, files, ("cascaded",), [0, 1], tmp_path, workers=1, talk=QUIET)
    assert [events(run) for run in runs[:3]] == before, "nothing was asked of a site again"
    assert [run.finished for run in runs[3:]] == [False, False, True]
    cascaded = {each for each in first.figures if each.arrangement == "cascaded"}
    assert cascaded == {each for each in both.figures if each.seed == 0}
    assert {each.seed for each in both.figures} == {0, 1}
    found = {(each.arrangement, each.site, each.task) for each in first.figures}
    assert ("cascaded", "harbour", "lesion_suspicious") in found, "a site without the cascade's source takes part"
    assert ("single", "riverside", "structures") in found, "one owner is enough for a task alone"
    with pytest.raises(Problem, match="another study or other sites"):
        compare_topologies(study, files[:1], ("cascaded",), [0], tmp_path, workers=1, talk=QUIET)


def test_an_interrupted_run_goes_on(federation: tuple[Study, list[Path]], tmp_path: Path) -> None:
    study, files = federation
    (run,) = planned(study, files, ["parallel"], [0], tmp_path)

    def interrupted(_: str, event: Event) -> None:
        if event.what == "committed" and event.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_arm(run.study, run.sites, "federated", run.folder, workers=1, watch=Watch(event=interrupted))
    before = events(run)
    assert not run.finished
    found = compare_topologies(study, files, ["parallel"], [0], tmp_path, workers=1, talk=QUIET)
    assert events(run)[: len(before)] == before
    assert sum(what == "committed" and number == 1 for _, number, _, what in events(run)) == 1
    assert run.finished
    assert found.figures
    assert json.loads(found.model_dump_json())["seeds"] == [0]


@pytest.mark.parametrize(("values", "clear"), [([0.1, 0.1001], False), ([0.1, 0.1001, 0.0999], True)])
def test_two_seeds_that_happen_to_agree_make_nothing_clear(values: list[float], clear: bool) -> None:
    assert average(values).clear == clear
