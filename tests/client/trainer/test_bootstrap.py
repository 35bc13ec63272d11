"""Intervals that can be checked by hand: of constants, of fractions, over patients with several images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from polyward_client.trainer.bootstrap import Indices, intervals

RESAMPLES = 2000
Floats = NDArray[np.float64]


def interval(
    figure: Callable[[Indices], float | None],
    groups: Sequence[str] | Indices,
    resamples: int,
    generator: np.random.Generator,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """The interval of one figure; None where there is none."""

    def figures(places: Indices) -> dict[str, float]:
        value = figure(places)
        return {} if value is None else {"figure": value}

    return intervals(figures, groups, resamples, generator, level).get("figure")


def mean_interval(
    values: Floats, groups: Sequence[str] | Indices, resamples: int, generator: np.random.Generator, level: float = 0.95
) -> tuple[float, float] | None:
    return interval(lambda places: float(values[places].mean()), groups, resamples, generator, level)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def fraction(positive: int, count: int) -> Floats:
    """`positive` ones among `count` cases."""
    return (np.arange(count) < positive).astype(np.float64)


def spread_out() -> tuple[Floats, list[str]]:
    """Six patients with 1 to 6 images, in no order."""
    groups = [f"p{number}" for number in range(1, 7) for _ in range(number)]
    order = generator(7).permutation(len(groups))
    return generator(8).random(len(groups)), [groups[place] for place in order]


def test_a_constant_has_no_width() -> None:
    assert interval(lambda _: 0.25, ["a", "b", "b"], 50, generator()) == (0.25, 0.25)
    assert mean_interval(np.full(3, 0.25), ["a", "b", "b"], 50, generator()) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("positive", "count", "exact"),  # Clopper and Pearson (1934)
    [(50, 100, (0.398, 0.602)), (30, 100, (0.212, 0.400)), (10, 40, (0.127, 0.412))],
)
def test_a_fraction_has_about_the_binomial_interval(positive: int, count: int, exact: tuple[float, float]) -> None:
    found = mean_interval(fraction(positive, count), np.arange(count), RESAMPLES, generator())
    assert found == pytest.approx(exact, abs=0.03)


def test_two_patients_have_the_interval_between_them() -> None:
    # A quarter of the draws are twice the first patient, a quarter twice the second.
    assert mean_interval(np.array([0.25, 0.75]), ["a", "b"], 200, generator()) == (0.25, 0.75)


def test_a_wider_level_is_a_wider_interval() -> None:
    values, groups = fraction(50, 100), np.arange(100)
    half = mean_interval(values, groups, RESAMPLES, generator(), level=0.5)
    # The normal quartiles: 0.5 +- 0.674 * 0.05
    assert half == pytest.approx((0.466, 0.534), abs=0.01)
    assert interval(lambda places: float(values[places].mean()), groups, RESAMPLES, generator(), 0.5) == half


def test_the_same_seed_gives_the_same_interval() -> None:
    values, groups = spread_out()
    first, second, other = (mean_interval(values, groups, 100, generator(seed)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_patients_are_drawn_whole() -> None:
    groups = ["b", "a", "b", "c", "b"]
    seen: list[Indices] = []

    def figure(places: Indices) -> float:
        seen.append(places)
        return 0.0

    interval(figure, groups, 50, generator())
    for places in seen:
        times = np.bincount(places, minlength=5)
        assert times[0] == times[2] == times[4]
        assert times[0] + times[1] + times[3] == 3, "as many patients as there are"
    assert len({tuple(np.bincount(places, minlength=5)) for places in seen}) > 5


def test_more_images_of_the_same_patients_do_not_shrink_the_interval() -> None:
    values = generator(3).random(20)
    plain = mean_interval(values, np.arange(20), RESAMPLES, generator())
    copied, patients = np.tile(values, 5), np.tile(np.arange(20), 5)
    assert mean_interval(copied, patients, RESAMPLES, generator()) == pytest.approx(plain, rel=1e-12)
    slow = interval(lambda places: float(copied[places].mean()), patients, RESAMPLES, generator())
    assert slow == pytest.approx(plain, rel=1e-12)
    alone = mean_interval(copied, np.arange(100), RESAMPLES, generator())
    assert plain is not None
    assert alone is not None
    assert alone[1] - alone[0] < 0.6 * (plain[1] - plain[0]), "copies taken for patients would promise too much"


def test_one_patient_has_no_interval() -> None:
    assert interval(lambda _: 0.5, ["a"] * 9, 50, generator()) is None
    assert mean_interval(np.arange(9.0), ["a"] * 9, 50, generator()) is None
    assert interval(lambda _: 0.5, [], 50, generator()) is None
    assert mean_interval(np.array([]), [], 50, generator()) is None


def test_no_draws_no_interval() -> None:
    assert interval(lambda _: 0.5, ["a", "b"], 0, generator()) is None
    assert mean_interval(np.arange(2.0), ["a", "b"], 0, generator()) is None


@pytest.mark.parametrize("undefined", [None, float("nan")])
def test_undefined_draws_are_left_out_up_to_one_half(undefined: float | None) -> None:
    def first_of(defined: int) -> tuple[float, float] | None:
        answers = iter([0.5] * defined + [undefined] * (100 - defined))
        return interval(lambda _: next(answers), ["a", "b"], 100, generator())

    assert first_of(100) == first_of(50) == (0.5, 0.5)
    assert first_of(49) is None
