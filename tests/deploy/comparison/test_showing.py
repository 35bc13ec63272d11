"""The terminal, the files and the page: whole, honest about what is absent, and the same for the same comparison."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from polyward_deploy.comparison.drawings import courses
from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.comparison.page import page
from polyward_deploy.comparison.tables import write_comparison
from polyward_deploy.comparison.terminal import print_comparison
from polyward_deploy.results import ABSENT
from tests.deploy.comparison.sample import LESION, comparison
from tests.deploy.test_report import Reader

SITES = {"a": (0.5, 10), "b": (0.7, 30), "c": (0.6, 8), "d": (0.4, 8)}
NAMES = ("local", "fedavg", "fedper", "fedrep", "tasks", "cagrad", "krum")


def several(names: tuple[str, ...] = NAMES) -> Comparison:
    """Three seeds of one task at four sites; every method is better than the one before, the last by .01 more each."""
    return comparison(
        {
            name: {
                "lesion": [
                    {site: (value + 0.01 * place + 0.001 * seed, count) for site, (value, count) in SITES.items()}
                    for seed in range(3)
                ]
            }
            for place, name in enumerate(names)
        }
    )


def printed(found: Comparison, width: int = 80) -> str:
    console = Console(record=True, width=width, force_terminal=True, file=StringIO())
    print_comparison(console, found)
    return console.export_text()


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


def test_more_variations_than_fit_get_more_tables() -> None:
    text = printed(several())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    heads = [line.split()[3:] for line in text.splitlines() if line.split()[:3] == ["site", "and", "task"]]
    assert heads == [list(NAMES[:3]), list(NAMES[3:])]


def test_the_terminal_sums_up_each_method_against_the_reference() -> None:
    text = printed(several())
    assert "Against local: cells of site and task" in text
    assert re.search(r"fedavg +4 +0 +\+1\.\d +6\.00 +6\.0 MB +3\.0 MB +30\.0 s", text)
    assert re.search(rf"local +{ABSENT} +{ABSENT} +{ABSENT} +7\.00 +{ABSENT} +{ABSENT} +30\.0 s", text)
    assert re.search(r"fedavg +4 +0 .*\n +4\*", text), "and all four of them are clear"
    assert re.search(r"fedavg +b +\+1\.4 +4 of 4", text), ".01 of .7 at b"
    assert "Nemenyi's critical difference at the level of 5 percent is" in " ".join(text.split())
    assert "too few to tell methods apart" in " ".join(printed(LESION).split())


def test_a_failed_run_is_named() -> None:
    failed = LESION.model_copy(update={"failures": ("hybrid, seed 1: out of memory",)})
    assert "failed: hybrid, seed 1: out of memory" in printed(failed)
    assert "hybrid, seed 1: out of memory" in page(failed)
    assert "Failed." not in page(LESION)


def test_files_hold_every_figure_the_means_and_the_sums(tmp_path: Path) -> None:
    write_comparison(tmp_path, LESION)
    assert Comparison.model_validate_json((tmp_path / "topologies.json").read_bytes()) == LESION
    with (tmp_path / "figures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0] == {
        "topology": "parallel",
        "seed": "0",
        "site": "a",
        "task": "lesion",
        "metric": "auroc",
        "value": "0.5",
        "count": "10",
    }
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        table = {(row["site"], row["topology"]): row for row in csv.DictReader(file)}
    gain = table["", "cascaded"]
    assert float(gain["gain"]) == pytest.approx(0.17)
    # t(0.975; 1) = 12.706, sd = 0.0424: half = 12.706 * 0.0424 / sqrt(2) = 0.3812
    assert (float(gain["gain_low"]), float(gain["gain_high"])) == pytest.approx(
        (0.17 - 0.3812, 0.17 + 0.3812), abs=1e-3
    )
    assert table["", "parallel"]["gain"] == ""
    assert (table["b", "cascaded"]["best"], table["b", "parallel"]["best"]) == ("1", "0")
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        sums = {row["topology"]: row for row in csv.DictReader(file)}
    assert (sums["cascaded"]["cells"], sums["cascaded"]["better"], sums["cascaded"]["rank"]) == ("2", "2", "1.0")
    assert sums["parallel"]["worst_site"] == ""


def test_the_page_is_whole_and_asks_nothing_of_the_network() -> None:
    text = page(LESION)
    assert text == page(LESION)
    Reader(text)  # every element is closed
    assert "://" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    assert "--series-1: #0067a8" in text, "the report's style sheet"
    assert 'best">0.845<span class="under">± 0.007</span>' in text
    assert "Generated images." in text
    assert "cascaded 0.845 ± 0.007" in text, "the plot in words"
    assert 'class="better"' not in text, "a gain within the spread of the seeds has no colour"


def test_the_page_shows_gains_courses_ranks_and_costs() -> None:
    text = page(several())
    labels = [svg["aria-label"] or "" for svg in Reader(text).named("svg")]
    assert sum(label.startswith("Gain of ") for label in labels) == len(NAMES) - 1
    assert sum("over the rounds" in label for label in labels) == 2, "seven methods in two plots"
    assert sum(label.startswith("Mean ranks, critical difference") for label in labels) == 1
    assert any(
        label.startswith("Gain over local in task lesion, 95-percent intervals: fedavg +0.010") for label in labels
    )
    rows = {row[0]: row for row in Reader(text).rows}
    assert rows["krumwhat krum is"][1] == "44 clear", "of the 4 better cells all are"
    assert rows["krumwhat krum is"][6:] == ["1.00", "6.0 MB", "3.0 MB", "30.0 s"]
    assert rows["localwhat local is"][1:6] == [ABSENT] * 5


def test_few_blocks_have_no_plot_of_ranks() -> None:
    labels = [svg["aria-label"] or "" for svg in Reader(page(LESION)).named("svg")]
    assert not any(label.startswith("Mean ranks") for label in labels)
    assert any(label.startswith("Gain over parallel in task lesion, 95-percent intervals") for label in labels)


def test_a_course_is_the_weighted_mean_of_each_round() -> None:
    (course,) = courses(LESION)
    assert "parallel from 0.338 to 0.675; cascaded from 0.422 to 0.845" in course.svg
    assert [(key.name, key.sign) for key in course.keys] == [("parallel", "╌"), ("cascaded", "●")]


def test_ids_are_unique_and_references_lead_somewhere() -> None:
    text = page(several())
    ids = [attributes["id"] for _, attributes in Reader(text).elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', text))
    assert wanted <= set(ids)
