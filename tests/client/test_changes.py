"""What is different from the version that was approved before, key by key."""

from __future__ import annotations

from polyward_client.approvals import Approval
from polyward_client.changes import MEANINGS, changes, study_changes
from polyward_shared.schema import ArraySpec, Schema
from polyward_shared.study import Study
from tests.support.toy_trainer import toy_schema, toy_study

STUDY = toy_study()
SCHEMA = toy_schema(STUDY, ("mask",))
BEFORE = Approval(STUDY, ("mask",), SCHEMA)


def test_the_same_study_has_not_changed() -> None:
    assert list(changes(BEFORE, BEFORE)) == ["the same 2 arrays leave as before"]


def test_each_key_that_differs_is_told_with_both_values_and_what_it_is_about() -> None:
    now = toy_study(rounds=50, wire={"codec": "bfloat16"}, training={"epochs": 9})
    assert list(study_changes(STUDY, now)) == [
        "rounds: was 3, is 50 (how many times arrays leave)",
        "training.epochs: was 1, is 9 (how this site trains)",
        "wire.codec: was 'float32', is 'bfloat16' (the form of what leaves, and how far an update may go)",
    ]


def test_new_tasks_and_tasks_that_are_gone() -> None:
    now = toy_study(tasks={"mask": {"kind": "segmentation"}, "age": {"kind": "regression"}})
    assert list(study_changes(STUDY, now)) == ["task grade (binary): is gone", "task age (regression): is new"]


def test_another_kind_of_encoder_shows_its_own_keys() -> None:
    wide = {"image": {"size": [64, 64]}}
    said = list(study_changes(toy_study(**wide), toy_study(**wide, encoder={"kind": "resnet"})))
    assert "encoder.kind: was 'segres', is 'resnet' (the network whose weights leave)" in said
    assert any(line.startswith("encoder.filters: is gone, was 4") for line in said)
    assert any(line.startswith("encoder.depth: is new, ") for line in said)


def test_every_section_of_a_study_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Study.model_fields) - {"id"}


def test_arrays_and_tasks_that_are_new_gone_or_of_another_shape() -> None:
    now = Schema((ArraySpec("encoder.w", (9, 3)), *(ArraySpec(f"encoder.x{n}", (1,)) for n in range(7))))
    assert list(changes(BEFORE, Approval(STUDY, ("grade",), now))) == [
        "no longer trained here: mask",
        "now trained here: grade",
        "7 arrays leave that did not before: encoder.x0, encoder.x1, encoder.x2, encoder.x3, encoder.x4 and 2 more",
        "1 arrays leave no longer: encoder.b",
        "1 arrays leave in another shape: encoder.w",
    ]
