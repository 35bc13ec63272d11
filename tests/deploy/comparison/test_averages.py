"""Means over seeds and over sites, gains seed by seed, and what is said of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_deploy.comparison.averages import (
    Average,
    average,
    caveat,
    sentences,
    site_lines,
    task_lines,
    weighted_means,
)
from tests.deploy.comparison.sample import LESION, TOPOLOGY, comparison


def test_mean_and_standard_deviation_over_seeds() -> None:
    found = average([0.5, 0.7, 0.9])
    assert found.mean == pytest.approx(0.7)
    assert found.sd == pytest.approx(0.2)
    assert found.seeds == 3
    assert average([0.5]) == Average(0.5, None, 1)


def test_the_interval_is_students() -> None:
    # t(0.975; 2) = 4.3027, sd = 0.2: half = 4.3027 * 0.2 / sqrt(3)
    assert average([0.5, 0.7, 0.9]).interval == pytest.approx((0.7 - 0.49683, 0.7 + 0.49683), abs=1e-5)
    assert average([0.5]).interval is None


def test_a_site_has_its_own_mean_for_each_variation() -> None:
    a, b = site_lines(LESION)
    assert (a.site, a.count, b.site, b.count) == ("a", 10, "b", 30)
    assert a.averages["parallel"].mean == pytest.approx(0.6)
    assert a.averages["parallel"].sd == pytest.approx(0.2 / 2**0.5)
    assert a.best == b.best == {"cascaded"}
    assert a.gains["cascaded"].mean == pytest.approx(0.2)
    assert b.gains["cascaded"].sd == pytest.approx(0.08 / 2**0.5)


def test_over_sites_cases_are_weights_and_the_gain_is_taken_seed_by_seed() -> None:
    (line,) = task_lines(LESION)
    assert line.count == 40
    assert line.averages["parallel"].mean == pytest.approx((0.65 + 0.7) / 2)
    assert line.averages["cascaded"].mean == pytest.approx((0.85 + 0.84) / 2)
    assert line.gains["cascaded"].mean == pytest.approx((0.2 + 0.14) / 2)
    assert line.gains["cascaded"].sd == pytest.approx(0.06 / 2**0.5)
    assert "parallel" not in line.gains


def test_a_smaller_error_is_a_gain() -> None:
    found = comparison({"local": {"size": [{"a": (3.0, 9)}]}, "fedper": {"size": [{"a": (2.5, 9)}]}})
    (line,) = task_lines(found)
    assert line.gains["fedper"].mean == pytest.approx(0.5)
    assert line.best == {"fedper"}
    assert site_lines(found)[0].gains["fedper"].mean == pytest.approx(0.5)


def test_a_site_without_a_figure_in_one_run_is_in_no_mean_over_sites() -> None:
    found = comparison(
        {"local": {"outline": [{"a": (0.5, 10)}]}, "krum": {"outline": [{"a": (0.6, 10), "b": (0.0, 90)}]}}
    )
    (line,) = task_lines(found)
    assert line.count == 10
    assert line.averages["krum"].mean == pytest.approx(0.6)
    assert "local" not in site_lines(found)[1].averages
    assert site_lines(found)[1].gains == {}


def test_a_variation_without_the_task_is_said_and_does_not_cost_the_others_their_figures() -> None:
    found = comparison(
        {
            "local": {"lesion": [{"a": (0.5, 9)}], "size": [{"a": (3.0, 9)}]},
            "fedavg": {"lesion": [{"a": (0.6, 9)}]},
            "fedper": {"lesion": [{"a": (0.7, 9)}], "size": [{"a": (2.0, 9)}]},
        }
    )
    lesion, size = task_lines(found)
    assert set(lesion.averages) == {"local", "fedavg", "fedper"}
    assert set(size.averages) == {"local", "fedper"}
    assert size.gains["fedper"].mean == pytest.approx(1.0)
    assert set(weighted_means(found, "size")) == {("local", 0), ("fedper", 0)}
    assert "fedavg has no figures of size, and is not compared there." in caveat(found)
    assert "fedper has no figures" not in caveat(found)


def test_figures_over_other_cases_are_no_gain() -> None:
    found = comparison({"local": {"lesion": [{"a": (0.5, 9)}]}, "fedper": {"lesion": [{"a": (0.7, 8)}]}})
    assert site_lines(found)[0].gains == {}


def test_a_mean_over_fewer_seeds_is_not_the_best() -> None:
    found = comparison(
        {
            "parallel": {"lesion": [{"a": (0.5, 9)}, {"a": (0.5, 9)}]},
            "single": {"lesion": [{"a": (0.4, 9)}, {"a": (0.4, 9)}]},
            "hybrid": {"lesion": [{}, {"a": (0.9, 9)}]},
        },
        TOPOLOGY,
    )
    (line,) = site_lines(found)
    assert line.best == {"parallel"}
    assert line.averages["hybrid"].seeds == 1
    assert set(line.gains) == {"single"}


def test_a_difference_is_clear_only_beyond_the_spread_of_the_seeds() -> None:
    assert average([0.10, 0.11, 0.09]).clear
    assert not average([0.10, -0.05, 0.04]).clear
    assert not average([0.10]).clear
    assert average([0.1, 0.14, 0.12, 0.02]).clear, "t = 3.60 where 3.18 is needed"
    assert not average([0.1, 0.14, 0.02]).clear, "t = 2.46 where 4.30 is needed"


@pytest.mark.parametrize(("values", "clear"), [([0.1, 0.1001], False), ([0.1, 0.1001, 0.0999], True)])
def test_two_seeds_that_happen_to_agree_make_nothing_clear(values: list[float], clear: bool) -> None:
    assert average(values).clear == clear


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8), st.floats(0.01, 100))
def test_clear_does_not_depend_on_the_unit(values: list[float], unit: float) -> None:
    if len(set(values)) > 1 and max(map(abs, values)) > 1e-6:
        low, high = average(values).interval or (0.0, 0.0)
        scaled = average([unit * value for value in values]).interval
        assert scaled == pytest.approx((unit * low, unit * high), rel=1e-6, abs=1e-9)


def test_sentences_name_the_winner_and_what_the_seeds_leave_open() -> None:
    assert sentences(LESION) == [
        "lesion: cascaded has the best mean, +0.170 ± 0.042 against parallel; beyond the spread of the seeds: nothing."
    ]
    steady = comparison(
        {
            "single": {"lesion": [{"a": (0.4, 9)}, {"a": (0.5, 9)}, {"a": (0.6, 9)}]},
            "parallel": {"lesion": [{"a": (0.5, 9)}, {"a": (0.6, 9)}, {"a": (0.7, 9)}]},
        },
        TOPOLOGY,
    )
    assert sentences(steady) == ["lesion: parallel has the best mean; beyond the spread of the seeds: single worse."]


def test_several_names_are_a_list() -> None:
    values = {"local": 0.5, "a": 0.6, "b": 0.7, "c": 0.8}
    found = comparison({name: {"lesion": [{"x": (v + 0.001 * s, 9)} for s in range(3)]} for name, v in values.items()})
    (sentence,) = sentences(found)
    assert sentence.endswith("beyond the spread of the seeds: a, b and c better.")


def test_one_seed_is_said_to_tell_nothing_about_spread() -> None:
    one = LESION.model_copy(update={"seeds": (0,), "figures": tuple(e for e in LESION.figures if e.seed == 0)})
    assert caveat(one).startswith("One seed tells nothing about spread")
    assert sentences(one) == ["lesion: cascaded has the best mean, +0.200 against parallel."]
    assert "over 2 seeds" in caveat(LESION)


def test_notes_are_part_of_what_the_figures_do_not_say() -> None:
    assert "krum is left out." in caveat(LESION.model_copy(update={"notes": ("krum is left out.",)}))
