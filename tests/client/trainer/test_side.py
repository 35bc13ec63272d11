"""Inputs besides the image: what a branch sees of them, and that they stay."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from polyward_client.site import Site
from polyward_client.trainer.check import run_check
from polyward_client.trainer.dataset import Batch, Dataset, load_dataset
from polyward_client.trainer.evaluate import predict
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel, personal_arrays, schema_of
from polyward_client.trainer.round import fit_statistics
from polyward_client.trainer.side import SideInputs, side_names
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study, read_rows, write_manifest, write_site

SIDE: dict[str, Any] = {"age": {"kind": "number"}, "sex": {"kind": "category", "classes": ["F", "M"]}}
NAN = math.nan


def study_of(tasks: dict[str, tuple[str, ...]], **changes: Any) -> Study:
    """These tasks with these side inputs."""
    data = make_study(tasks=tuple(tasks), **changes).model_dump(mode="json")
    named = {name: {**TASKS[name], "side": side} for name, side in tasks.items()}
    return Study.model_validate(
        {"side": SIDE, **data, "tasks": named, **({"side": SIDE} if "side" not in changes else {})}
    )


def sited(folder: Path, tasks: tuple[str, ...], **columns: list[str]) -> Site:
    """A site with these further columns in its manifest."""
    site = write_site(folder, tasks=tasks)
    rows = read_rows(site)
    for number, row in enumerate(rows):
        row.update({name: values[number] for name, values in columns.items()})
    write_manifest(site.manifest, rows)
    return site


def loaded(site: Site, study: Study) -> Dataset:
    return load_dataset(read_manifest(site, study, site.file.tasks), study)


def test_numbers_are_standardised_classes_one_hot_and_what_is_missing_is_marked() -> None:
    inputs = SideInputs(study_of({"bright": ("age", "sex")}), ("bright",))
    inputs.fit(torch.tensor([[1.0, 0.0], [5.0, NAN], [NAN, 1.0]]))  # mean 3, spread 2
    found = inputs(torch.tensor([[7.0, 1.0], [NAN, NAN], [3.0, 0.0]]))
    assert found["age"].tolist() == [[2, 0], [0, 1], [0, 0]]
    assert found["sex"].tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("seen", [[5.0, 5.0], [NAN, NAN]], ids=["constant", "never stated"])
def test_a_column_without_spread_stays_finite(seen: list[float]) -> None:
    inputs = SideInputs(study_of({"bright": ("age",)}), ("bright",))
    inputs.fit(torch.tensor(seen)[:, None])
    mean = 0.0 if math.isnan(seen[0]) else 5.0
    assert inputs(torch.tensor([[mean], [mean + 1]]))["age"].tolist() == [[0, 0], [1, 0]]


def test_only_the_tasks_own_inputs_are_read_in_the_studys_order() -> None:
    study = study_of({"bright": ("sex",), "mask": ("age",), "grade": ()})
    assert side_names(study, ("bright", "mask")) == ("age", "sex")
    assert side_names(study, ("bright",)) == ("sex",)
    assert side_names(study, ("grade",)) == ()


def test_mean_and_spread_are_those_of_the_training_split(tmp_path: Path) -> None:
    study = study_of({"bright": ("age",)})
    ages = [str(20 + 2 * (number % 2)) if number % 5 < 3 else "1000" for number in range(20)]
    data, model = loaded(sited(tmp_path, ("bright",), age=ages), study), MultiTaskModel(study, ("bright",))
    fit_statistics(model, data)
    assert model.input_adapter.get_buffer("scale").tolist() == [[21.0, 1.0]]  # six of 20, six of 22


def test_a_branch_answers_to_its_own_inputs_alone() -> None:
    study = study_of({"bright": ("age", "sex"), "mask": ("age",), "grade": ()})
    model, images = MultiTaskModel(study, tuple(study.tasks)), torch.rand(1, 1, 16, 16)

    def moved(side: list[float]) -> set[str]:
        before, after = (model(images, side=torch.tensor([values])) for values in ([0.0, 0.0], side))
        return {task for task in before if not torch.equal(before[task], after[task])}

    assert moved([1.0, 0.0]) == {"bright", "mask"}
    assert moved([0.0, 1.0]) == {"bright"}
    assert moved([NAN, 0.0]) == {"bright", "mask"}


@pytest.mark.parametrize("branches", ["site", "task"])
def test_mean_and_spread_never_leave(branches: str) -> None:
    study = study_of({"bright": ("age", "sex")}, sharing={"branches": branches})
    model = MultiTaskModel(study, ("bright",))
    shared = {spec.name for spec in schema_of(model, study).arrays}
    assert not any(name.startswith("input_adapter") for name in shared)
    assert "input_adapter.scale" in personal_arrays(model, study)
    if branches == "site":
        plain = make_study(tasks=("bright",))
        assert schema_of(model, study) == schema_of(MultiTaskModel(plain, ("bright",)), plain)


@pytest.mark.parametrize(("age", "sex", "words"), [("old", "F", "column age"), ("7", "X", "expected one of F, M")])
def test_a_wrong_cell_is_named(tmp_path: Path, age: str, sex: str, words: str) -> None:
    study = study_of({"bright": ("age", "sex")})
    site = sited(tmp_path, ("bright",), age=[age] * 20, sex=[sex] * 20)
    with pytest.raises(Problem, match=words):
        read_manifest(site, study, ("bright",))


def test_two_inputs_may_read_one_column(tmp_path: Path) -> None:
    classes = {"kind": "category", "classes": ["0", "1"], "column": "age"}
    data = study_of({"bright": ("age",)}).model_dump(mode="json")
    study = Study.model_validate(
        {
            **data,
            "side": {"age": {"kind": "number"}, "old": classes},
            "tasks": {"bright": {"kind": "binary", "side": ["age", "old"]}},
        }
    )
    side = loaded(sited(tmp_path, ("bright",), age=["0", "1"] * 9 + ["", "1"]), study).side
    assert side is not None
    assert side[:2].tolist() == [[0, 0], [1, 1]]
    assert bool(side[18].isnan().all())


def test_the_check_gives_each_task_its_own_inputs(tmp_path: Path) -> None:
    study = study_of({"bright": ("age",), "grade": ("sex",)})
    site = sited(tmp_path, ("bright", "grade"), age=["70"] * 20, sex=["M"] * 20)
    console = Console(file=StringIO(), width=140)
    assert run_check(site, study, console), console.file.getvalue()  # type: ignore[attr-defined]


def test_windows_of_an_image_keep_its_inputs() -> None:
    study = study_of({"mask": ("age",)}, image={"window": [8, 8]}, training={"batch": 3})
    model, images = MultiTaskModel(study, ("mask",)).eval(), torch.rand(2, 1, 16, 16)

    def answers(places: list[int], ages: list[float]) -> torch.Tensor:
        count = len(places)
        target = torch.zeros(count, 16, 16, dtype=torch.uint8)
        side = torch.tensor(ages)[:, None]
        batch = Batch(images[places], {"mask": target}, {"mask": torch.ones(count)}, {"mask": count}, side=side)
        with torch.inference_mode():
            return predict(model, batch, study)["mask"]

    both = answers([0, 1], [0.0, 9.0])
    assert torch.allclose(both[0], answers([0], [0.0])[0], atol=1e-5)
    assert torch.allclose(both[1], answers([1], [9.0])[0], atol=1e-5)
    assert not torch.allclose(both[1], answers([1], [0.0])[0], atol=1e-3)


def test_a_case_without_a_cell_is_missing_and_not_zero(tmp_path: Path) -> None:
    study = study_of({"bright": ("age",)})
    data = loaded(sited(tmp_path, ("bright",), age=[""] + ["0"] * 19), study)
    batch = data.batch(np.array([0, 1]), torch.device("cpu"))
    assert batch.side is not None
    assert batch.side.isnan().flatten().tolist() == [True, False]
