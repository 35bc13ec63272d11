"""The form of a new study: what it asks, what it says, and that nothing is lost on the way to study.toml and back."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from polyward_server.dashboard.forms import StudyForm, TaskForm, form_of, mistakes, study_in, study_of
from polyward_server.dashboard.questions import (
    ENCODERS,
    TASKS,
    as_text,
    as_value,
    beside,
    encoder_questions,
    sections,
    task_questions,
)
from polyward_server.writing import written
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.study import Study, read_study
from polyward_shared.tasks import METRICS

FILLED = {"id": "breast", "rounds": "20", "image.size": "64, 64", "encoder.blocks": "1, 2"}
MASK = TaskForm(name="mask", kind="segmentation", entries={"classes": "tumour, cyst"})

words = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)
names = st.lists(words.filter(str.strip), min_size=2, max_size=4, unique=True)
task_names = st.sampled_from(["mask", "grade", "size", "risk", "b_2"])
tables: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "binary": st.fixed_dictionaries(
        {}, optional={"column": words | st.just(""), "positive_weight": st.floats(0.1, 100)}
    ),
    "multiclass": st.fixed_dictionaries({"classes": names}, optional={"label_smoothing": st.floats(0, 0.9)}),
    "ordinal": st.fixed_dictionaries({"classes": names}, optional={"loss": st.sampled_from(["coral", "corn"])}),
    "regression": st.fixed_dictionaries({}, optional={"unit": words | st.just("")}),
    "survival": st.fixed_dictionaries({"times": st.just([1.0, 2.5, 1e3])}, optional={"event": words}),
    "segmentation": st.fixed_dictionaries({}, optional={"classes": names, "surface": st.floats(0.1, 99)}),
    "synthesis": st.fixed_dictionaries({}, optional={"intensity": st.sampled_from(["zscore", [-100.0, 300.0]])}),
}
some_tasks = st.dictionaries(
    task_names,
    st.sampled_from(sorted(tables)).flatmap(lambda kind: tables[kind].map(lambda table: {**table, "kind": kind})),
    min_size=1,
    max_size=3,
)
some_encoders = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("segres"), "blocks": st.sampled_from([[1, 1], [1, 2, 2]])},
        optional={"filters": st.sampled_from([8, 32]), "norm": st.sampled_from(["group", "batch"])},
    ),
    st.fixed_dictionaries({"kind": st.just("resnet"), "depth": st.sampled_from([10, 50])}),
    st.fixed_dictionaries(
        {"kind": st.just("custom"), "path": st.just("ours.nets:Net")},
        optional={"options": st.just({"width": 3, "name": "a, b"})},
    ),
)
some_studies = st.fixed_dictionaries(
    {
        "id": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True),
        "rounds": st.integers(1, 10**6),
        "image": st.fixed_dictionaries(
            {"size": st.sampled_from([[64, 64], [32, 64, 96]])},
            optional={"intensity": st.sampled_from(["zscore", [-1000.0, 400.5]]), "channels": st.integers(1, 64)},
        ),
        "encoder": some_encoders,
        "tasks": some_tasks,
    },
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "training": st.fixed_dictionaries({"learning_rate": st.floats(1e-9, 9.9), "batch": st.integers(1, 999)}),
        "wire": st.fixed_dictionaries({"codec": st.just("bfloat16"), "update_norm": st.floats(1e-6, 1e300)}),
        "evaluation": st.just({"splits": ["val"], "resamples": 100}),
        "personal": st.just({"alone": False, "ditto": 0.25}),
        "participation": st.just({"quorum": 3, "sample": 0.5, "task_quorum": {}}),
        "side": st.just({"age": {"kind": "number"}, "sex": {"kind": "category", "classes": ["f", "m, x"]}}),
    },
)  # fmt: skip


@given(some_studies)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_a_study_comes_back_from_its_form_and_from_its_file(data: dict[str, Any]) -> None:
    try:
        study = validated(data, Study, where="drawn")
    except Problem:
        reject()  # no rule allows such a study
    again = study_of(StudyForm.model_validate_json(form_of(study).model_dump_json()))
    assert again.digest() == study.digest()
    assert study_in(written(study)).digest() == study.digest()


def test_the_file_on_the_disk_is_the_same_study(tmp_path: Path) -> None:
    study = study_of(StudyForm(entries=FILLED, tasks=(MASK,)))
    (tmp_path / "study.toml").write_text(written(study), encoding="utf-8")
    assert read_study(tmp_path / "study.toml").digest() == study.digest()
    assert (study.rounds, study.image.size, study.tasks["mask"].kind) == (20, (64, 64), "segmentation")


def fields(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def test_the_form_asks_for_everything_but_tables_of_own_names() -> None:
    asked = {question.key for section in sections() for question in section.questions}
    for name, field in Study.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            left = {key for key in fields(model) if f"{name}.{key}" not in asked}
            assert left == {"topology": {"cascade", "interact"}, "participation": {"task_quorum"}}.get(name, set())
    for kind, encoder in ENCODERS.items():
        keys = {question.key.removeprefix("encoder.") for question in encoder_questions()[kind].questions}
        assert fields(encoder) - keys == {"kind"} | ({"options"} if kind == "custom" else set())
    assert set(TASKS) == set(METRICS)
    for kind, task in TASKS.items():
        assert fields(task) - {question.key for question in task_questions()[kind].questions} == {"kind"}


def test_explanations_are_those_beside_the_fields() -> None:
    told = beside(TASKS["multilabel"])
    assert told["uncertain"] == ""
    assert told["columns"] == "in the order of the classes; the classes' names when absent"
    assert told["weight"] == "used by the balancer fixed"  # of the class that it is one of
    own = {question.key: question for section in sections() for question in section.questions}
    assert own["sharing.branches"].help.startswith("site: no branch; task:")  # from the line above
    assert (own["rounds"].required, own["training.batch"].default, own["training.batch"].kind) == (True, "8", "whole")
    assert own["wire.codec"].choices == ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"rounds": "many"}, "rounds", "found 'many'; expected a valid integer"),
        ({"rounds": "2.5"}, "rounds", "found 2.5"),
        ({"id": "a b"}, "id", "letters, digits, dots"),
        ({"id": ""}, "id", "is missing"),
        ({"image.size": "65, 64"}, "image.size", "multiple of 2"),
        ({"image.size": "64, x"}, "image.size.1", "found 'x'"),
        ({"aggregation.rule": "median"}, "aggregation.weighting", "expected 'uniform'"),
        ({"training.learning_rate": "nan"}, "training.learning_rate", "finite"),
        ({"wire.codec": "zip"}, "wire.codec", "float32"),
        ({"id": "a\0b"}, "", "NUL"),
    ],
)
def test_a_mistake_is_told_at_its_field(change: dict[str, str], key: str, words: str) -> None:
    with pytest.raises(Problem) as problem:
        study_of(StudyForm(entries={**FILLED, **change}, tasks=(MASK,)))
    [mistake] = mistakes(problem.value)
    assert mistake.key == key
    assert words in mistake.sentence


@pytest.mark.parametrize(
    ("tasks", "rest", "key"),
    [
        ((TaskForm(name="", kind="binary"),), "", "tasks."),
        ((TaskForm(name="Mask", kind="binary"),), "", "tasks.Mask"),
        ((TaskForm(name="grade", kind="multiclass"),), "", "tasks.grade.classes"),
        ((TaskForm(name="grade", kind="guess"),), "", "tasks.grade.kind"),
        ((MASK, MASK), "", "tasks.mask"),
        ((), "", "tasks"),
        ((MASK,), "colour = 3", "colour"),
        ((MASK,), "image = 3", "image"),
        ((MASK,), "[", ""),
    ],
)
def test_a_mistake_in_tasks_and_the_rest_is_told_at_its_place(tasks: tuple[TaskForm, ...], rest: str, key: str) -> None:
    with pytest.raises(Problem) as problem:
        study_of(StudyForm(entries=FILLED, tasks=tasks, rest=rest))
    assert mistakes(problem.value)[0].key == key


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 90_000) + " = 1",
        "[" + ".".join(["a"] * 90_000) + "]",
        " . ".join(["''"] * 30_000) + " = 1",
        "x = {" + ".".join(['"a b"'] * 30_000) + " = 1}",
        "\n".join(f"k{number} = 1" for number in range(18_000)),
        "a" * 199_000,
        "a" + " " * 190_000,
        '"' + '\\"' * 99_000,
    ],
    ids=["key", "table", "blanks", "inline", "unknown keys", "one word", "one blank", "quotes"],
)
def test_a_text_that_is_made_to_take_long_does_not(text: str) -> None:
    began = time.process_time()
    with pytest.raises(Problem):
        study_in(text)
    assert time.process_time() - began < 5  # it was minutes


def test_what_has_no_line_goes_into_the_rest() -> None:
    study = study_of(StudyForm(entries=FILLED, tasks=(MASK,), rest='[side.age]\nkind = "number"'))
    awkward = study.model_copy(
        update={"tasks": {"mask": study.tasks["mask"].model_copy(update={"classes": ("a, b", "c")})}}
    )
    form = form_of(awkward)
    assert tomllib.loads(form.rest) == {
        "side": {"age": {"kind": "number"}},
        "tasks": {"mask": {"classes": ["a, b", "c"]}},
    }
    assert study_of(form) == awkward


@pytest.mark.parametrize("value", [0.1, 1e-300, 12345678.9, 3.0, 7, True, False, "minmax", [1, 2], [0.5, -3.0]])
def test_a_value_comes_back_from_its_line(value: Any) -> None:
    kinds = {bool: "switch", int: "whole", float: "number", str: "text", list: "numbers"}
    assert as_value(kinds[type(value)], as_text(value)) == value  # type: ignore[arg-type]
