"""The one door: what may leave, and everything else that may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_client.approvals import Approval
from polyward_client.gate import egress
from polyward_client.gate.egress import check_counts, check_metrics, check_norm, check_state
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Code, Refused
from tests.support.toy_trainer import toy_schema, toy_study

STUDY = toy_study(evaluation={"splits": ["test"]})
APPROVAL = Approval(STUDY, ("mask",), toy_schema(STUDY, ("mask",)))
SHARED = toy_study(sharing={"branches": "task"})


def arrays() -> dict[str, Any]:
    return {spec.name: np.ones(spec.shape, np.float32) for spec in APPROVAL.schema.arrays}


def code_of(call: Any, *arguments: Any) -> Code:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.code


def test_the_schemas_arrays_leave_as_one_vector() -> None:
    np.testing.assert_array_equal(check_state(APPROVAL.schema, arrays()), np.ones(9, np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"branches.mask.w": np.ones(2, np.float32)},
        {"encoder.extra": np.ones(1, np.float32)},
        {"optimiser.state": np.ones(9, np.float32)},
        {"encoder.b": np.ones(4, np.float32)},
        {"encoder.b": np.ones((1, 3), np.float32)},
        {"encoder.b": np.ones(3, np.float64)},
        {"encoder.b": None},
    ],
)
def test_branches_and_anything_else_stay(change: dict[str, Any]) -> None:
    given = {name: value for name, value in {**arrays(), **change}.items() if value is not None}
    assert code_of(check_state, APPROVAL.schema, given) is Code.EGRESS_SCHEMA


def test_only_the_sites_own_branches_leave_where_branches_are_shared() -> None:
    schema = toy_schema(SHARED, ("mask",))
    own = {**arrays(), "branches.mask.w": np.ones(2, np.float32)}
    assert check_state(schema, own).size == 11
    assert code_of(check_state, schema, {**own, "branches.grade.w": np.ones(2, np.float32)}) is Code.EGRESS_SCHEMA


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 8])
def test_not_a_number_stays(value: float, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "SLICE", 4)
    given = arrays()
    APPROVAL.schema.views(flat := APPROVAL.schema.pack(given))
    flat[place] = value
    assert code_of(check_state, APPROVAL.schema, APPROVAL.schema.views(flat)) is Code.EGRESS_NOT_FINITE


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=9))
def test_the_norm_is_the_euclidean_one(values: list[float]) -> None:
    flat = np.array(values, np.float32)
    norm = check_norm(flat, np.zeros_like(flat), 1000)
    assert norm == pytest.approx(float(np.sqrt(np.sum(flat.astype(np.float64) ** 2))), abs=1e-12)


def test_the_norms_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "SLICE", 1)
    base, flat = np.ones(2, np.float32), np.array([4, 5], np.float32)
    assert check_norm(flat, base, 5.0) == 5.0
    assert code_of(check_norm, flat, base, 4.999) is Code.EGRESS_NORM
    assert code_of(check_norm, flat, np.array([np.nan, 0], np.float32), 5.0) is Code.EGRESS_NORM


def row(**changes: Any) -> Metric:
    plain = {"task": "mask", "split": "test", "stage": Stage.TRAINED, "name": "dice", "value": 0.5, "count": 5}
    return Metric(**{**plain, **changes})  # unchecked, as a hostile trainer would


def test_figures_leave_with_their_counts_and_small_ones_stay() -> None:
    allowed, suppressed = check_metrics(APPROVAL, [row(), row(name="loss", count=4), row(stage=Stage.RECEIVED)], 5)
    assert [(m.name, m.stage, m.value, m.count) for m in allowed] == [
        ("dice", Stage.TRAINED, 0.5, 5),
        ("dice", Stage.RECEIVED, 0.5, 5),
    ]
    assert suppressed == 1


BOUNDED = Approval(toy_study(evaluation={"splits": ["test"], "resamples": 100}), ("mask",), APPROVAL.schema)


@pytest.mark.parametrize(("low", "high"), [(0.4, 0.6), (0.5, 0.5), (0.6, 0.7), (-1.0, 0.0)])
def test_intervals_leave_with_their_figures(low: float, high: float) -> None:
    sure = row(low=low, high=high)
    assert check_metrics(BOUNDED, [sure, row(name="loss")], 5) == ((sure, row(name="loss")), 0)
    assert check_metrics(BOUNDED, [row(low=low, high=high, count=4)], 5) == ((), 1)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.4, None),
        (None, 0.6),
        (0.6, 0.4),
        (float("nan"), 0.6),
        (0.4, float("nan")),
        (-float("inf"), 0.6),
        (0.4, float("inf")),
    ],
)
@pytest.mark.parametrize("count", [5, 0])
def test_what_is_no_interval_is_refused(low: float | None, high: float | None, count: int) -> None:
    assert code_of(check_metrics, BOUNDED, [row(low=low, high=high, count=count)], 5) is Code.EGRESS_METRIC


def test_intervals_stay_where_the_study_has_none() -> None:
    assert code_of(check_metrics, APPROVAL, [row(low=0.4, high=0.6)], 5) is Code.EGRESS_METRIC


@pytest.mark.parametrize(
    "change",
    [
        {"name": "patient_17"},
        {"name": "auroc"},  # of another kind of task
        {"task": "grade"},  # of the study, but not of this site
        {"task": "other"},
        {"split": "train"},
        {"split": "val"},  # not measured in this study
        {"value": float("nan")},
        {"value": float("inf")},
    ],
)
@pytest.mark.parametrize("count", [5, 0])
def test_unforeseen_figures_are_refused_even_when_they_would_stay(change: dict[str, Any], count: int) -> None:
    assert code_of(check_metrics, APPROVAL, [row(count=count, **change)], 5) is Code.EGRESS_METRIC


def test_the_same_figure_twice_is_refused() -> None:
    assert code_of(check_metrics, APPROVAL, [row(), row(value=0.25)], 5) is Code.EGRESS_METRIC


def test_counts() -> None:
    assert check_counts(APPROVAL, {"mask": 5}, 5, 5) == {"mask": 5}
    assert code_of(check_counts, APPROVAL, {"mask": 4}, 9, 5) is Code.POLICY
    assert code_of(check_counts, APPROVAL, {"mask": 5}, 4, 5) is Code.POLICY
    assert code_of(check_counts, APPROVAL, {"mask": 5, "grade": 5}, 9, 5) is Code.EGRESS_METRIC
    assert code_of(check_counts, APPROVAL, {"mask": -1}, 9, 5) is Code.POLICY
