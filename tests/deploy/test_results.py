"""The table's rules on figures that can be checked by hand, and the files it is written to."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from polyward_deploy.results import (
    ABSENT,
    Cell,
    Choice,
    Results,
    Row,
    interval,
    print_table,
    read_results,
    read_rows,
    seen_as,
    shown,
    table,
    verdict,
    write_results,
)
from polyward_shared.messages import Stage
from polyward_shared.problems import Problem
from tests.deploy.sample import ALPHA, HOSTILE, measured, sample


def cell_of(results: Results, site: str, task: str) -> Cell:
    return next(cell for cell in table(results) if (cell.site, cell.task) == (site, task))


def with_rows(results: Results, rows: list[Row]) -> Results:
    return results.model_copy(update={"rows": tuple(rows)})


def printed(results: Results) -> str:
    console = Console(width=140, file=io.StringIO(), force_terminal=False)
    print_table(console, table(results))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_cell_for_every_task_of_every_site_in_order() -> None:
    assert [(cell.site, cell.task, cell.metric) for cell in table(sample())] == [
        (ALPHA, "lesion", "auroc"),
        (ALPHA, "size", "mae"),
        ("beta", "lesion", "auroc"),
        ("beta", "size", "mae"),
        ("beta", "outline", "dice"),
    ]


def test_gain_is_positive_when_federation_is_better() -> None:
    assert cell_of(sample(), ALPHA, "lesion").gain == pytest.approx(0.80 - 0.70)
    assert cell_of(sample(), ALPHA, "size").gain == pytest.approx(-2.0), "an error that grew is a loss"
    assert cell_of(sample(), ALPHA, "size").best == {"local"}
    assert cell_of(sample(), ALPHA, "lesion").best == {"federated"}


def test_absent_is_absent() -> None:
    lonely, empty = cell_of(sample(), "beta", "lesion"), cell_of(sample(), "beta", "size")
    assert set(lonely.values) == {"federated"}
    assert (lonely.gain, lonely.count, lonely.best) == (None, 9, frozenset())
    assert (empty.gain, empty.count, dict(empty.values)) == (None, None, {})


def test_figures_of_other_cases_or_stages_are_not_compared() -> None:
    results = sample()
    federated = [r for r in results.rows if (r.arm, r.site, r.task) == ("federated", ALPHA, "lesion")]
    others = [r for r in results.rows if r not in federated]
    fewer = with_rows(results, others + [replace(row, count=19) for row in federated])
    assert cell_of(fewer, ALPHA, "lesion").gain is None
    untuned = with_rows(results, others + [row for row in federated if row.stage is not Stage.FINAL])
    assert cell_of(untuned, ALPHA, "lesion").values["federated"].value == pytest.approx(0.6 * 0.80)
    assert cell_of(untuned, ALPHA, "lesion").gain is None


def test_a_site_that_fell_out_has_no_figure_at_the_end() -> None:
    results = sample()
    gone = [r for r in results.rows if r.site != "beta" or r.round == 1]
    assert dict(cell_of(with_rows(results, gone), "beta", "outline").values) == {}


def test_only_the_test_split_counts() -> None:
    results = sample()
    rows = [row for row in results.rows if row.split == "val"]
    assert all(not cell.values for cell in table(with_rows(results, rows)))


def test_an_absent_figure_has_no_row() -> None:
    with pytest.raises(ValueError, match="found value = nan"):
        Row("local", 1, "a", "t", "test", Stage.FINAL, "auroc", math.nan, 5)
    with pytest.raises(ValueError, match="count = 0"):
        Row("local", 1, "a", "t", "test", Stage.FINAL, "auroc", 0.5, 0)


@pytest.mark.parametrize(("low", "high"), [(0.4, None), (None, 0.6), (0.6, 0.4), (math.nan, 0.6), (0.4, math.inf)])
def test_a_row_has_a_whole_interval_or_none(low: float | None, high: float | None) -> None:
    with pytest.raises(ValueError, match="expected both ends"):
        Row("local", 1, "a", "t", "test", Stage.FINAL, "auroc", 0.5, 5, low, high)


def test_interval_only_where_value_and_count_give_one() -> None:
    row = Row("local", 1, "a", "t", "test", Stage.FINAL, "dice", 0.5, 16)
    found = interval(row)
    assert found is not None
    # Wilson by hand: centre 0.5, half = 1.96 / (1 + 3.8416 / 16) * sqrt(0.25 / 16 + 3.8416 / 1024) = 0.2199
    assert found == pytest.approx((0.2801, 0.7199), abs=2e-4)
    assert interval(replace(row, value=0.0)) == pytest.approx((0.0, 0.1936), abs=2e-4)
    assert interval(replace(row, metric="auroc")) is None
    assert interval(replace(row, metric="mae")) is None


def test_a_measured_interval_stands_before_a_rough_one() -> None:
    row = Row("local", 1, "a", "t", "test", Stage.FINAL, "dice", 0.5, 16, 0.45, 0.6)
    assert interval(row) == (0.45, 0.6)
    assert interval(replace(row, metric="mae", low=3.0, high=4.0)) == (3.0, 4.0)
    values = cell_of(measured(sample()), "beta", "outline").values
    assert (values["federated"].interval, values["federated"].measured) == ((0.5, 0.75), True)
    assert not values["local"].measured
    assert values["local"].interval == pytest.approx((0.2801, 0.7199), abs=2e-4)


def test_the_verdict_counts_cells_and_cases() -> None:
    text = verdict(table(sample()))
    assert "2 of 3 cells better, 1 worse, 0 equal" in text
    assert "16 to 20 test cases" in text
    assert "One seed proves nothing" in text
    assert "No cell can be compared" in verdict([])


def test_what_a_site_keeps_is_marked_where_it_is_not_the_federated_model() -> None:
    kept = (Choice(ALPHA, "lesion", "alone"), Choice(ALPHA, "size", "ditto"), Choice("beta", "outline", "federated"))
    results = sample().model_copy(update={"kept": kept})
    text = printed(results)
    assert "+0.100†" in text
    assert "\N{MINUS SIGN}2.00‡" in text
    assert "+0.125†" not in text
    assert "† the site keeps the model that it trained alone." in text
    assert "‡ the site keeps its own model" in text
    assert "†" not in printed(sample())
    one = sample().model_copy(update={"kept": kept[:1]})
    assert "‡" not in printed(one), "only marks that are there are explained"


def test_a_model_beside_the_federated_one_can_be_looked_at_in_its_place() -> None:
    row = Row("federated", 2, ALPHA, "lesion", "test", Stage.DITTO_FINAL, "auroc", 0.9, 20)
    results = with_rows(sample(), [*sample().rows, row])
    assert cell_of(results, ALPHA, "lesion").values["federated"].value == 0.80
    assert cell_of(seen_as(results, "ditto"), ALPHA, "lesion").values["federated"].value == 0.9
    assert {row.stage for row in seen_as(results, "ditto").rows} == {Stage.FINAL}


def test_shown() -> None:
    assert shown(None) == ABSENT
    assert shown(0.0) == "0.000"
    assert shown(-0.0004, signed=True) == "0.000"
    assert shown(0.25, signed=True) == "+0.250"
    assert shown(-12.3456, 2, signed=True) == "\N{MINUS SIGN}12.35"


def test_printed_table_shows_dashes_and_survives_markup_in_names() -> None:
    text = printed(sample(first="[red]x[/nothing]"))
    assert "[red]x[/nothing]" in text
    [line] = [line for line in text.splitlines() if line.count(ABSENT) == 5]
    assert line.split() == ["size", "mae↓", *[ABSENT] * 5], "count, three arms and gain"


@pytest.mark.parametrize("first", [ALPHA, HOSTILE, "with, comma\nand line"])
def test_files_round_trip(tmp_path: Path, first: str) -> None:
    results = sample(first=first)
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert read_rows(tmp_path / "metrics.csv") == list(results.rows)


def test_intervals_are_in_every_file(tmp_path: Path) -> None:
    results = measured(sample())
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert read_rows(tmp_path / "metrics.csv") == list(results.rows)
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["low"], row["high"]) for row in rows} == {("", ""), ("0.5", "0.75"), ("0.625", "0.875")}
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert (lines[0]["federated_low"], lines[0]["federated_high"]) == ("0.625", "0.875")
    assert (lines[4]["federated_low"], lines[4]["federated_high"]) == ("0.5", "0.75")
    assert lines[4]["local_low"] == lines[4]["local_high"] == "", "a rough interval was not measured"


def test_rows_from_before_there_were_intervals_are_read(tmp_path: Path) -> None:
    write_results(tmp_path, sample())
    path = tmp_path / "metrics.csv"
    text = path.read_text(encoding="utf-8").replace(",low,high\n", "\n").replace(",,\n", "\n")
    path.write_text(text, encoding="utf-8")
    assert read_rows(path) == list(sample().rows)


def test_table_csv_leaves_absent_cells_empty(tmp_path: Path) -> None:
    write_results(tmp_path, sample())
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["count"] for line in lines] == ["20", "18", "9", "", "16"]
    assert lines[2]["local"] == lines[2]["gain"] == ""
    assert set(list(lines[3].values())[3:]) == {""}
    assert float(lines[1]["gain"]) == -2.0


def test_damaged_files_are_problems(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no such file"):
        read_results(tmp_path)
    with pytest.raises(Problem, match="no such file"):
        read_rows(tmp_path / "metrics.csv")
    write_results(tmp_path, sample())
    (tmp_path / "results.json").write_text('{"study": 1}', encoding="utf-8")
    with pytest.raises(Problem, match="not a file of results"):
        read_results(tmp_path)
    text = (tmp_path / "metrics.csv").read_text(encoding="utf-8").replace(",20,", ",many,", 1)
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(Problem, match="count"):
        read_rows(tmp_path / "metrics.csv")
