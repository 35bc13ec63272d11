"""The three rules and the cap, by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_server.aggregate.fold import WEIGHT_TOTAL
from polyward_server.aggregate.weights import Labels, believed, capped, effective_sites, group_task, site_weights
from tests.support.toy_trainer import toy_study

SITES = {
    "a": Labels(30, {"mask": 30}),
    "b": Labels(10, {"mask": 10, "grade": 5}),
    "c": Labels(20, {"grade": 20}),
}


def shares(group: str, **rule: Any) -> dict[str, float]:
    owners = {s: labels for s, labels in SITES.items() if group == "encoder" or group.split(".")[1] in labels.counts}
    weights = site_weights(toy_study(aggregation=rule), group, owners)
    return {site: weight / sum(weights.values()) for site, weight in weights.items()}


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({}, {"a": 30 / 60, "b": 10 / 60, "c": 20 / 60}),
        ({"weighting": "uniform"}, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        # mask: 30 : 10, grade: 5 : 20, both tasks the same say
        ({"weighting": "tasks", "task_exponent": 1}, {"a": 0.375, "b": 0.125 + 0.1, "c": 0.4}),
        ({"weighting": "tasks", "task_exponent": 0}, {"a": 0.25, "b": 0.5, "c": 0.25}),
        # square roots: mask 5.477 : 3.162, grade 2.236 : 4.472
        ({"weighting": "tasks"}, {"a": 0.316987, "b": 0.183013 + 0.166667, "c": 0.333333}),
    ],
)
def test_weights_of_the_encoder(rule: dict[str, Any], wanted: dict[str, float]) -> None:
    assert shares("encoder", **rule) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("weighting", ["samples", "tasks"])
def test_a_branch_counts_by_the_labels_of_its_task_among_its_owners(weighting: str) -> None:
    rule = {"weighting": weighting, "task_exponent": 1.0}
    assert shares("branches.mask", **rule) == pytest.approx({"a": 0.75, "b": 0.25}, abs=1e-5)
    assert shares("branches.grade", **rule) == pytest.approx({"b": 0.2, "c": 0.8}, abs=1e-5)
    assert shares("branches.mask", weighting="tasks", task_exponent=0) == pytest.approx({"a": 0.5, "b": 0.5})
    assert shares("branches.mask", weighting="uniform") == pytest.approx({"a": 0.5, "b": 0.5})


def test_a_tasks_own_weight_scales_its_say() -> None:
    tasks = {"mask": {"kind": "segmentation", "weight": 3.0}, "grade": {"kind": "binary"}}
    study = toy_study(aggregation={"weighting": "tasks", "task_exponent": 1}, tasks=tasks, balancer={"kind": "fixed"})
    weights = site_weights(study, "encoder", SITES)
    whole = sum(weights.values())
    assert weights["a"] / whole == pytest.approx(0.75 * 0.75, abs=1e-5)
    assert weights["c"] / whole == pytest.approx(0.25 * 0.8, abs=1e-5)


@pytest.mark.parametrize(
    ("shares", "largest", "wanted"),
    [
        ([6, 3, 1], 1.0, [0.6, 0.3, 0.1]),
        ([6, 3, 1], 0.5, [0.5, 0.375, 0.125]),
        ([6, 3, 1], 0.4, [0.4, 0.4, 0.2]),  # b goes over the cap once a has given
        ([80, 14, 4, 2], 0.4, [0.4, 0.4, 0.2 * 4 / 6, 0.2 * 2 / 6]),
        ([6, 3, 1], 1 / 3, [1 / 3] * 3),
        ([6, 3, 1], 0.1, [1 / 3] * 3),
        ([5], 0.2, [1.0]),
    ],
)
def test_what_is_over_the_cap_goes_to_the_others_in_proportion(
    shares: list[float], largest: float, wanted: list[float]
) -> None:
    found = capped({f"s{index}": share for index, share in enumerate(shares)}, largest)
    assert list(found.values()) == pytest.approx(wanted)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12), st.floats(0.01, 1))
def test_no_share_is_over_the_cap_and_the_order_stays(shares: list[float], largest: float) -> None:
    found = list(capped({f"s{index}": share for index, share in enumerate(shares)}, largest).values())
    assert sum(found) == pytest.approx(1)
    assert max(found) <= max(largest, 1 / len(found)) + 1e-9
    by_share = [found[index] for index in sorted(range(len(shares)), key=lambda index: shares[index])]
    assert all(low <= high + 1e-9 for low, high in pairwise(by_share))


def test_the_cap_of_the_study_holds_for_integer_weights() -> None:
    assert shares("encoder", largest_share=0.4) == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.4}, abs=1e-5)


def test_weights_do_not_depend_on_the_order_of_the_sites() -> None:
    study = toy_study(aggregation={"weighting": "tasks", "largest_share": 0.45})
    turned = dict(reversed(SITES.items()))
    assert site_weights(study, "encoder", turned) == site_weights(study, "encoder", SITES)


def test_effective_sites() -> None:
    assert effective_sites({"a": 5, "b": 5, "c": 5}) == 3
    assert effective_sites({"a": 3, "b": 1}) == 1.6
    assert effective_sites({}) == 0


def test_the_task_of_a_group() -> None:
    assert group_task("branches.mask") == "mask"
    assert group_task("encoder") is None
    assert group_task("statistics") is None


def test_a_claim_beyond_belief_is_cut() -> None:
    sites = {"a": Labels(100, {"mask": 100}), "b": Labels(300, {"mask": 300}), "liar": Labels(2**40, {"mask": 2**40})}
    for group in ("encoder", "branches.mask"):
        weights = site_weights(toy_study(), group, sites)
        assert weights["liar"] / weights["b"] == pytest.approx(20, rel=1e-3)
    assert believed({"a": 17, "b": 96, "c": 564, "d": 629}) == {"a": 17, "b": 96, "c": 564, "d": 629}
    assert believed({}) == {}


COUNTS = st.dictionaries(st.sampled_from(["mask", "grade", "unknown"]), st.integers(0, 2**40 - 1))
ANY_SITES = st.dictionaries(st.text(max_size=3), st.builds(Labels, st.integers(0, 2**40 - 1), COUNTS), min_size=1)


@settings(max_examples=60, deadline=None)
@given(ANY_SITES, st.sampled_from(["samples", "tasks", "uniform"]), st.floats(0, 1))
def test_whatever_sites_claim_every_one_counts_and_the_sum_fits(
    sites: dict[str, Labels], weighting: str, exponent: float
) -> None:
    study = toy_study(aggregation={"weighting": weighting, "task_exponent": exponent})
    weights = site_weights(study, "encoder", sites)
    assert weights.keys() == sites.keys()
    assert all(isinstance(weight, int) and weight >= 1 for weight in weights.values())
    assert sum(weights.values()) <= WEIGHT_TOTAL
