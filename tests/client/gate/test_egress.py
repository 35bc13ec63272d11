"""The one door: what may leave, and everything else that may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_client.approvals import Approval
from polyward_client.gate import egress
from polyward_client.gate.egress import (
    check_counts,
    check_kept,
    check_metrics,
    check_norm,
    check_precision,
    check_progress,
    check_state,
    check_steps,
)
from polyward_client.port.interface import Progress
from polyward_client.trainer.schedule import final_phases, join_phases, round_phases
from polyward_shared.messages import AT_THE_END, Kind, Metric, Stage
from polyward_shared.problems import Code, Refused
from polyward_shared.schema import ArraySpec, Schema
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


def vector(size: int) -> Schema:
    return Schema((ArraySpec("encoder.w", (size,)),))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=9))
def test_the_norm_is_the_euclidean_one(values: list[float]) -> None:
    flat = np.array(values, np.float32)
    norm = check_norm(vector(len(values)), flat, np.zeros_like(flat), 1000)
    assert norm == pytest.approx(float(np.sqrt(np.sum(flat.astype(np.float64) ** 2))), abs=1e-12)


def test_the_norms_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "SLICE", 1)
    base, flat = np.ones(2, np.float32), np.array([4, 5], np.float32)
    assert check_norm(vector(2), flat, base, 5.0) == 5.0
    assert code_of(check_norm, vector(2), flat, base, 4.999) is Code.EGRESS_NORM
    assert code_of(check_norm, vector(2), flat, np.array([np.nan, 0], np.float32), 5.0) is Code.EGRESS_NORM


GROUPS = Schema(
    (
        ArraySpec("encoder.w", (2,)),
        ArraySpec("branches.mask.w", (1,)),
        ArraySpec("precision.encoder.w", (2,)),
        ArraySpec("statistics.encoder.norm.mean", (1,)),
    )
)


def test_the_norm_is_of_all_changes_and_a_precision_is_none() -> None:
    base = np.zeros(6, np.float32)
    flat = np.array([1, 2, 4, 900, 900, 10], np.float32)
    assert check_norm(GROUPS, flat, base, 11.0) == pytest.approx(11.0)  # 1 + 4 + 16 + 100 = 121
    assert code_of(check_norm, GROUPS, flat, base, 10.9) is Code.EGRESS_NORM


def sure(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([5, 5, 5, *values, 5], np.float32)


def test_a_precision_says_which_weights_and_not_how_much_on_the_whole() -> None:
    check_precision(vector(2), np.full(2, -7, np.float32))  # this study has none
    for honest in ((1, 1), (2, 0), (0.5, 1.5), (1.0005, 1.0005)):
        check_precision(GROUPS, sure(*honest))
    for greedy in ((3, -1), (-0.1, 2.1), (0, 0), (2, 2), (1.01, 1.01), (1e30, 1e30), (np.inf, 1), (np.nan, 1)):
        assert code_of(check_precision, GROUPS, sure(*greedy)) is Code.EGRESS_NORM


def row(**changes: Any) -> Metric:
    plain = {"task": "mask", "split": "test", "stage": Stage.TRAINED, "name": "dice", "value": 0.5, "count": 5}
    return Metric(**{**plain, **changes})  # unchecked, as a hostile trainer would


def test_figures_leave_with_their_counts_and_small_ones_stay() -> None:
    rows = [row(), row(name="loss", count=4), row(stage=Stage.RECEIVED)]
    allowed, suppressed = check_metrics(APPROVAL, Kind.TRAIN, rows, 5)
    assert [(m.name, m.stage, m.value, m.count) for m in allowed] == [
        ("dice", Stage.TRAINED, 0.5, 5),
        ("dice", Stage.RECEIVED, 0.5, 5),
    ]
    assert suppressed == 1


BOUNDED = Approval(toy_study(evaluation={"splits": ["test"], "resamples": 100}), ("mask",), APPROVAL.schema)


@pytest.mark.parametrize(("low", "high"), [(0.4, 0.6), (0.5, 0.5), (0.6, 0.7), (-1.0, 0.0)])
def test_intervals_leave_with_their_figures(low: float, high: float) -> None:
    sure = row(low=low, high=high)
    assert check_metrics(BOUNDED, Kind.TRAIN, [sure, row(name="loss")], 5) == ((sure, row(name="loss")), 0)
    assert check_metrics(BOUNDED, Kind.TRAIN, [row(low=low, high=high, count=4)], 5) == ((), 1)


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
    assert code_of(check_metrics, BOUNDED, Kind.TRAIN, [row(low=low, high=high, count=count)], 5) is Code.EGRESS_METRIC


def test_intervals_stay_where_the_study_has_none() -> None:
    assert code_of(check_metrics, APPROVAL, Kind.TRAIN, [row(low=0.4, high=0.6)], 5) is Code.EGRESS_METRIC


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
    assert code_of(check_metrics, APPROVAL, Kind.TRAIN, [row(count=count, **change)], 5) is Code.EGRESS_METRIC


def test_the_same_figure_twice_is_refused() -> None:
    assert code_of(check_metrics, APPROVAL, Kind.TRAIN, [row(), row(value=0.25)], 5) is Code.EGRESS_METRIC


def test_counts() -> None:
    assert check_counts(APPROVAL, {"mask": 5}, 5, 5) == {"mask": 5}
    assert code_of(check_counts, APPROVAL, {"mask": 4}, 9, 5) is Code.POLICY
    assert code_of(check_counts, APPROVAL, {"mask": 5}, 4, 5) is Code.POLICY
    assert code_of(check_counts, APPROVAL, {"mask": 5, "grade": 5}, 9, 5) is Code.EGRESS_METRIC
    assert code_of(check_counts, APPROVAL, {"mask": -1}, 9, 5) is Code.POLICY


PERSONAL = {"alone": {"alone": True}, "ditto": {"alone": False, "ditto": 0.1}, "none": {"alone": False}}


def with_personal(name: str) -> Approval:
    study = toy_study(evaluation={"splits": ["test"]}, personal=PERSONAL[name])
    return Approval(study, ("mask",), APPROVAL.schema)


ALLOWED = {
    ("alone", Kind.TRAIN): {Stage.RECEIVED, Stage.TRAINED, Stage.ALONE},
    ("ditto", Kind.TRAIN): {Stage.RECEIVED, Stage.TRAINED, Stage.DITTO},
    ("none", Kind.TRAIN): {Stage.RECEIVED, Stage.TRAINED},
    ("alone", Kind.FINISH): {Stage.FINAL, Stage.ALONE_FINAL, Stage.KEPT},
    ("ditto", Kind.FINISH): {Stage.FINAL, Stage.DITTO_FINAL, Stage.KEPT},
    ("none", Kind.FINISH): {Stage.FINAL},
}


@pytest.mark.parametrize(("personal", "kind"), ALLOWED)
def test_a_figure_has_a_stage_of_its_order_and_of_the_studys_models(personal: str, kind: Kind) -> None:
    approval = with_personal(personal)
    for stage in Stage:
        if stage in ALLOWED[personal, kind]:
            assert check_metrics(approval, kind, [row(stage=stage)], 5) == ((row(stage=stage),), 0)
        else:
            assert code_of(check_metrics, approval, kind, [row(stage=stage)], 5) is Code.EGRESS_METRIC
    assert bool(ALLOWED[personal, kind] & AT_THE_END) == (kind is Kind.FINISH)


def test_one_word_for_each_task_at_the_end() -> None:
    for personal, words in (("alone", ("federated", "alone")), ("ditto", ("federated", "ditto"))):
        approval = with_personal(personal)
        for word in ("federated", "alone", "ditto", "patient 17", ""):
            if word in words:
                assert check_kept(approval, Kind.FINISH, {"mask": word}) == {"mask": word}  # type: ignore[dict-item]
            else:
                assert code_of(check_kept, approval, Kind.FINISH, {"mask": word}) is Code.EGRESS_METRIC


def test_the_word_stays_elsewhere() -> None:
    approval = with_personal("alone")
    for kind in (Kind.TRAIN, Kind.JOIN):
        assert check_kept(approval, kind, {}) == {}
        assert code_of(check_kept, approval, kind, {"mask": "alone"}) is Code.EGRESS_METRIC
    assert code_of(check_kept, approval, Kind.FINISH, {"grade": "alone"}) is Code.EGRESS_METRIC
    assert code_of(check_kept, with_personal("none"), Kind.FINISH, {"mask": "federated"}) is Code.EGRESS_METRIC


def test_steps_are_no_more_than_the_schedule_can_make() -> None:
    training = {"epochs": 2, "branch_epochs": 1, "join_epochs": 1}
    each = Approval(toy_study(training=training), ("mask",), APPROVAL.schema)
    budget = Approval(toy_study(training={**training, "steps": 50}), ("mask",), APPROVAL.schema)
    for approval, most in ((each, 40), (budget, 200)):  # 4 epochs of 10 images, one to a step; or of 50 steps
        assert [check_steps(approval, Kind.TRAIN, steps, 10) for steps in (0, most)] == [0, most]
        for steps in (most + 1, -1, 2**39, True, 1.0):
            assert code_of(check_steps, approval, Kind.TRAIN, steps, 10) is Code.EGRESS_METRIC
    assert check_steps(each, Kind.FINISH, 0, 10) == 0
    assert code_of(check_steps, each, Kind.FINISH, 1, 10) is Code.EGRESS_METRIC


@pytest.mark.parametrize("schedule", ["fedrep", "fedper", "fedbabu"])
def test_progress_is_told_under_the_names_of_the_schedules_phases(schedule: str) -> None:
    training = toy_study(training={"schedule": schedule}).training
    for phase in (*round_phases(training, 1, 3), *join_phases(training), *final_phases(training)):
        told = Progress(phase=phase.name, epoch=1, epochs=2, loss=0.5)
        assert check_progress(told) == told
    for stage in Stage:
        assert check_progress(Progress(phase=f"measuring ({stage})")).phase == f"measuring ({stage})"
    for text in ("Smith^John", "measuring (Smith^John)", "loading /images/smith.png", ""):
        assert check_progress(Progress(phase=text, epoch=1)) == Progress(phase="working", epoch=1)


def test_a_model_beside_is_told_by_one_word_whatever_it_does() -> None:
    for phase in ("alone: together", "ditto: measuring (alone)", "alone: a patient's name"):
        assert check_progress(Progress(phase=phase, epoch=1)) == Progress(phase="beside", epoch=1)
