"""Task names are safe as keys, columns and module names; every kind has metrics and a last layer."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from polyward_shared.tasks import LOWER_IS_BETTER, METRICS, RESERVED, Task, TaskName, better

TASK: TypeAdapter[Task] = TypeAdapter(Task)
NAME: TypeAdapter[str] = TypeAdapter(TaskName)


@pytest.mark.parametrize("name", ["a", "mask", "t2_lesion", "a" * 40])
def test_good_names(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "2d", "_a", "a b", "a.b", "a/b", "../a", "ä", "a\n", "a" * 41, "aß", "a²", *sorted(RESERVED)]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(name)


def test_better_knows_the_direction() -> None:
    assert better("auroc", 0.9, 0.8)
    assert better("mae", 0.8, 0.9)
    assert not better("loss", 1.0, 1.0)


@pytest.mark.parametrize("times", [[1.0], [0.0, 1.0], [2.0, 1.0]])
def test_survival_times_rise_from_above_zero(times: list[float]) -> None:
    with pytest.raises(ValidationError):
        TASK.validate_python({"kind": "survival", "times": times})


@pytest.mark.parametrize("classes", [["a"], ["a", "a"], ["a", " "], []])
def test_classes_are_at_least_two_and_differ(classes: list[str]) -> None:
    with pytest.raises(ValidationError):
        TASK.validate_python({"kind": "multiclass", "classes": classes})


def test_every_kind_has_a_main_metric_and_a_loss() -> None:
    kinds = TASK.json_schema()["discriminator"]["mapping"]
    assert set(kinds) == set(METRICS)
    assert all(names[-1] == "loss" and len(set(names)) == len(names) for names in METRICS.values())
    assert {name for names in METRICS.values() for name in names} >= LOWER_IS_BETTER


def test_the_value_for_unjudged_places_is_no_class() -> None:
    text = {"kind": "segmentation", "classes": ["liver", "spleen"]}
    assert TASK.validate_python({**text, "ignore": 3})
    with pytest.raises(ValidationError, match="which is the label of 'spleen'; expected a value above 2"):
        TASK.validate_python({**text, "ignore": 2})


@pytest.mark.parametrize("kind", [{"kind": "binary"}, {"kind": "ordinal", "classes": ["low", "high"]}])
def test_attention_over_the_images_of_a_group_needs_the_group(kind: dict[str, object]) -> None:
    assert TASK.validate_python({**kind, "group": "patient_id", "pooling": "attention"})
    assert TASK.validate_python({**kind, "pooling": "mean"})
    with pytest.raises(ValidationError, match="pooling: found 'attention' without a group; expected `group`"):
        TASK.validate_python({**kind, "pooling": "attention"})
