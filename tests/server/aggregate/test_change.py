"""Every rule that gives one step: what holds for all of them, and each by hand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polyward_server.aggregate.change import change
from polyward_shared.aggregation import RULES, Aggregation, Rule
from tests.server.aggregate.stacking import Rows, random_rows, stacked

Array = NDArray[np.float64]

ONE: list[Rule] = [rule for rule, traits in RULES.items() if traits.encoders == "one"]
ROBUST: list[Rule] = ["trimmed_mean", "median", "krum"]
FASTER = settings(max_examples=25, deadline=None)


def aggregation(rule: Rule, **options: Any) -> Aggregation:
    return Aggregation(rule=rule, weighting="samples" if RULES[rule].weighs else "uniform", **options)


def step(
    rule: Rule, rows: Rows, weights: Mapping[str, int] | None = None, sure: Rows | None = None, **options: Any
) -> Array:
    """The step of these rows; every site as sure as its place among the names unless `sure` says more."""
    if rule == "precision" and sure is None:
        sure = {site: np.linspace(0.5, 1.5, len(row)) ** (1 + len(site)) for site, row in rows.items()}
    with ExitStack() as open_:
        stack = open_.enter_context(stacked(rows))
        precision = open_.enter_context(stacked(sure)) if sure is not None else None
        given_weights = weights or dict.fromkeys(rows, 5)
        return change(aggregation(rule, **options), stack, given_weights, seed=3, precision=precision)


def test_every_rule_is_among_those_that_are_tested() -> None:
    assert set(ONE) | {"clusters", "fedhca2"} == set(RULES)


@FASTER
@given(st.sampled_from(ONE), st.integers(0, 999), st.integers(1, 6), st.data())
def test_order_of_arrival_is_nothing_and_a_repeat_gives_the_same_bytes(
    rule: Rule, seed: int, count: int, data: st.DataObject
) -> None:
    rows = random_rows(seed, count)
    weights = {site: index + 1 for index, site in enumerate(rows)}
    order = data.draw(st.permutations(sorted(rows)))
    found = step(rule, rows, weights)
    assert step(rule, rows, weights).tobytes() == found.tobytes()
    assert step(rule, {site: rows[site] for site in order}, {site: weights[site] for site in order}).tobytes() == (
        found.tobytes()
    )


@FASTER
@given(st.sampled_from([rule for rule in ONE if rule != "pcgrad"]), st.integers(0, 999), st.data())
def test_names_are_nothing(rule: Rule, seed: int, data: st.DataObject) -> None:
    """All but pcgrad, which draws an order over the names."""
    rows = random_rows(seed, 5)
    weights = {site: index + 1 for index, site in enumerate(rows)}
    renamed = dict(zip(rows, data.draw(st.permutations(sorted(rows))), strict=True))
    found = step(rule, {renamed[s]: row for s, row in rows.items()}, {renamed[s]: w for s, w in weights.items()})
    assert found == pytest.approx(step(rule, rows, weights), abs=1e-4)


@FASTER
@given(st.sampled_from(ONE), st.integers(0, 999), st.sampled_from([2.0**-20, 0.25, 3.0, 1e4]))
def test_all_changes_times_s_give_the_step_times_s(rule: Rule, seed: int, times: float) -> None:
    rows = random_rows(seed, 5)
    found = step(rule, {site: row * np.float32(times) for site, row in rows.items()})
    assert found / times == pytest.approx(step(rule, rows), abs=1e-5)


@pytest.mark.parametrize("rule", ONE)
def test_one_site_alone_moves_by_its_own_change(rule: Rule) -> None:
    """Cagrad's ball around a lone change ends at (1 + c) of it, and its step is divided by 1 + c^2."""
    wanted = (1 + 0.4) / (1 + 0.4**2) if rule == "cagrad" else 1.0
    assert step(rule, {"a": [2.0, -1.0]}, c=0.4) == pytest.approx([2 * wanted, -wanted])


@pytest.mark.parametrize("rule", ONE)
def test_equal_changes_give_that_change_and_nobody_gives_none(rule: Rule) -> None:
    found = step(rule, {site: [3.0, -4.0] for site in "abcde"}, c=0.0)
    assert found == pytest.approx([3, -4])
    assert step(rule, {}).tolist() == [0, 0]


@pytest.mark.parametrize("rule", ONE)
def test_sites_that_give_zeros_give_no_nan(rule: Rule) -> None:
    assert step(rule, {site: [0.0, 0.0] for site in "abc"}).tolist() == [0, 0]
    assert np.isfinite(step(rule, {"a": [0.0, 0.0], "b": [1.0, 2.0]})).all()


@pytest.mark.parametrize(
    ("rule", "rows", "wanted"),
    [
        ("mean", {"a": [1, 0], "b": [0, 4]}, [0.25, 3]),  # weights 1 : 3
        ("median", {"a": [1, 9], "b": [2, 8], "c": [9, 1]}, [2, 8]),
        ("median", {"a": [1, 9], "b": [2, 8]}, [1.5, 8.5]),
        ("trimmed_mean", {"a": [1, 9], "b": [2, 8], "c": [9, 1], "d": [4, 2]}, [3, 5]),
        ("trimmed_mean", {"a": [1, 9], "b": [3, 8]}, [2, 8.5]),  # too few to cut: the middle
        ("krum", {"a": [0, 0], "b": [1, 0], "c": [0, 2], "d": [9, 9]}, [0, 0]),
        ("krum", {"a": [1, 9], "b": [2, 8], "c": [9, 1]}, [2, 8]),  # too few to compare: the middle
        ("mgda", {"a": [1, 0], "b": [0, 2]}, [0.8, 0.4]),
        ("pcgrad", {"a": [1, 0], "b": [-1, 1]}, [0.25, 0.75]),  # (1/2, 1/2) and (0, 1)
    ],
)
def test_by_hand(rule: Rule, rows: Rows, wanted: list[float]) -> None:
    assert step(rule, rows, {"a": 1, "b": 3, "c": 1, "d": 1}) == pytest.approx(wanted)


def test_weights_of_sites_that_did_not_answer_are_nothing() -> None:
    assert step("mean", {"a": [1, 0], "b": [0, 4]}, {"a": 1, "absent": 100, "b": 3}) == pytest.approx([0.25, 3])


def test_the_order_of_pcgrads_projections_comes_from_the_seed() -> None:
    rows = {"a": [1.0, 0.2], "b": [-1.0, 1.0], "c": [-0.5, -1.0], "d": [0.7, -1.0]}
    with stacked(rows) as stack:
        weights = dict.fromkeys(rows, 1)
        found = {change(aggregation("pcgrad"), stack, weights, seed=seed).tobytes() for seed in range(8)}
    assert len(found) > 1


@FASTER
@given(st.sampled_from(ROBUST), st.integers(0, 999), st.integers(0, 6), st.sampled_from([-1e6, 1e3, 1e30]))
def test_a_wild_site_cannot_carry_the_step_out_of_the_others_range(
    rule: Rule, seed: int, wild: int, size: float
) -> None:
    rows = random_rows(seed, 7)
    honest = [row for site, row in rows.items() if site != f"site{wild}"]
    rows[f"site{wild}"] = np.full(7, size, np.float32)
    found = step(rule, rows)
    assert (found >= np.min(honest, axis=0) - 1e-6).all()
    assert (found <= np.max(honest, axis=0) + 1e-6).all()
    assert np.abs(step("mean", rows)).max() > 50  # as it would be without


def test_precision_without_precisions_is_the_weighted_mean() -> None:
    rows, weights = random_rows(0, 3), {"site0": 1, "site1": 2, "site2": 3}
    with stacked(rows) as stack:
        found = change(aggregation("precision"), stack, weights, seed=0)
    assert found.tobytes() == step("mean", rows, weights).tobytes()


@pytest.mark.parametrize("rule", ["clusters", "fedhca2"])
def test_rules_with_several_encoders_have_no_single_step(rule: Rule) -> None:
    with stacked({"a": [1.0]}) as stack, pytest.raises(ValueError, match="no single step"):
        change(aggregation(rule), stack, {"a": 1}, seed=0)
