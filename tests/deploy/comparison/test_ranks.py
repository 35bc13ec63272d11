"""Ranks, the critical difference, Delta and the worst site, each by hand."""

from __future__ import annotations

import math

import pytest

from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.comparison.ranks import Summary, common, critical_difference, delta_tasks, ranks, summaries
from tests.deploy.comparison.sample import comparison

# site a: lesion 0.5 -> 0.6 (+20 %), size 4 -> 3 (+25 %); site b: lesion 0.8 -> 0.6 (-25 %); both seeds alike
PLAIN = comparison(
    {
        "local": {"lesion": [{"a": (0.5, 10), "b": (0.8, 30)}] * 2, "size": [{"a": (4.0, 10)}] * 2},
        "fedper": {"lesion": [{"a": (0.6, 10), "b": (0.6, 30)}] * 2, "size": [{"a": (3.0, 10)}] * 2},
        "tasks": {"lesion": [{"a": (0.6, 10), "b": (0.9, 30)}] * 2, "size": [{"a": (5.0, 10)}] * 2},
    }
)


def summary(found: Comparison, name: str) -> Summary:
    return next(each for each in summaries(found) if each.name == name)


def worst(found: Comparison, name: str) -> tuple[str, float]:
    """Site and Delta, to a tenth of a percent."""
    site, delta = summary(found, name).worst or ("", math.nan)
    return site, round(delta, 1)


def test_the_critical_difference_is_demsars() -> None:
    """Demsar 2006, table 5 (a) and the example of section 3.2.2: q = 2.569 for four, 2.343 for three classifiers."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), rel=2e-4)
    assert critical_difference(3, 10) == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 10)), rel=3e-4)
    assert critical_difference(10, 30) == pytest.approx(3.164 * math.sqrt(10 * 11 / (6 * 30)), rel=2e-4)
    assert critical_difference(1, 14) == critical_difference(4, 0) == math.inf


def test_ranks_are_means_over_blocks_and_ties_are_shared() -> None:
    found = ranks(PLAIN)
    assert found.blocks == 6
    # lesion at a: 3, 1.5, 1.5; lesion at b: 2, 3, 1; size at a, an error: 2, 1, 3
    assert found.mean == pytest.approx({"local": 7 / 3, "fedper": 5.5 / 3, "tasks": 5.5 / 3})
    assert not found.enough, "six blocks are too few"


def test_only_cells_that_all_have_are_ranked() -> None:
    without = PLAIN.model_copy(
        update={"figures": tuple(e for e in PLAIN.figures if (e.variation, e.task) != ("tasks", "size"))}
    )
    assert common(PLAIN) == [("a", "lesion"), ("a", "size"), ("b", "lesion")]
    assert common(without) == [("a", "lesion"), ("b", "lesion")]
    assert ranks(without).blocks == 4
    assert summary(without, "fedper").cells == 3  # it and the reference have
    one_seed = PLAIN.model_copy(
        update={"figures": tuple(e for e in PLAIN.figures if (e.variation, e.site, e.seed) != ("tasks", "b", 1))}
    )
    assert common(one_seed) == [("a", "lesion"), ("a", "size")]


def test_cells_better_and_worse_are_counted() -> None:
    fedper = summary(PLAIN, "fedper")
    assert (fedper.cells, fedper.better, fedper.worse) == (3, 2, 1)
    assert (fedper.clearly_better, fedper.clearly_worse) == (0, 0), "two seeds make nothing clear"
    local = summary(PLAIN, "local")
    assert (local.cells, local.better, local.worse, local.delta) == (0, 0, 0, None)


def test_three_seeds_that_agree_are_clear() -> None:
    values = {"local": (0.5, 0.52, 0.48), "up": (0.6, 0.63, 0.57), "down": (0.4, 0.41, 0.39), "none": (0.5, 0.6, 0.4)}
    found = comparison({name: {"lesion": [{"a": (v, 9)} for v in seeds]} for name, seeds in values.items()})
    clear = {each.name: (each.clearly_better, each.clearly_worse) for each in summaries(found)}
    assert clear == {"local": (0, 0), "up": (1, 0), "down": (0, 1), "none": (0, 0)}


def test_delta_is_the_mean_over_tasks_of_relative_gains() -> None:
    # over sites: lesion local (5 + 24) / 40 = 0.725, fedper 0.6: -17.2414 %; size 4 -> 3: +25 %
    assert delta_tasks(PLAIN) == ["lesion", "size"]
    delta = summary(PLAIN, "fedper").delta
    assert delta is not None
    assert delta.mean == pytest.approx((100 * (0.6 - 0.725) / 0.725 + 25) / 2)
    assert delta.sd == pytest.approx(0.0, abs=1e-12)


def test_the_worst_site_is_the_one_that_gains_least() -> None:
    assert worst(PLAIN, "fedper") == ("b", -25.0)
    assert worst(PLAIN, "tasks") == ("a", -2.5), "20 and -25 %"
    assert (summary(PLAIN, "fedper").sites_gaining, summary(PLAIN, "fedper").sites) == (1, 2)


def test_a_figure_near_zero_is_not_divided_by() -> None:
    found = comparison(
        {
            "local": {"grade": [{"a": (0.01, 9)}], "lesion": [{"a": (0.5, 9)}]},
            "fedper": {"grade": [{"a": (0.3, 9)}], "lesion": [{"a": (0.6, 9)}]},
        }
    )
    assert delta_tasks(found) == ["lesion"]
    fedper = summary(found, "fedper")
    assert fedper.delta is not None
    assert fedper.delta.mean == pytest.approx(20.0)
    assert worst(found, "fedper") == ("a", 20.0)
    assert fedper.better == 2, "the cell itself is compared"


def test_costs_are_sums_over_seeds() -> None:
    fedper, local = summary(PLAIN, "fedper"), summary(PLAIN, "local")
    assert (fedper.bytes_down, fedper.bytes_up, fedper.seconds) == (4_000_000, 2_000_000, 20.0)
    assert (local.bytes_down, local.bytes_up) == (0, 0)


def test_without_the_reference_ranks_remain() -> None:
    found = comparison({"fedper": {"lesion": [{"a": (0.5, 9)}]}, "tasks": {"lesion": [{"a": (0.6, 9)}]}})
    assert [(each.rank, each.cells, each.delta) for each in summaries(found)] == [(2.0, 0, None), (1.0, 0, None)]
