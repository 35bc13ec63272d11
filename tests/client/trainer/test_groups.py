"""Images that share a label: weighted by hand, counted once, and one image alone is no group."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyward_client.trainer.dataset import Batch, Dataset, epoch_batches, load_dataset
from polyward_client.trainer.evaluate import evaluate, gathered
from polyward_client.trainer.groups import grouped
from polyward_client.trainer.losses import task_loss
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.model import MultiTaskModel
from polyward_shared.messages import Stage
from polyward_shared.study import Study
from tests.support.images import make_study, read_rows, write_manifest, write_site

CPU = torch.device("cpu")


def study_of(tasks: dict[str, Any], **changes: Any) -> Study:
    data = make_study(**changes).model_dump(mode="json")
    return Study.model_validate({**data, "tasks": tasks})


GROUPED = {"kind": "binary", "group": "stack"}


def stacks(folder: Path, study: Study) -> Dataset:
    """Two images in each stack, labelled alike: 6 stacks to train on, 2 to validate, 2 to test; two by one patient."""
    site = write_site(folder, tasks=("bright",))
    rows = read_rows(site)
    for number, row in enumerate(rows):
        split = "train" if number < 12 else "val" if number < 16 else "test"
        stack = number // 2
        row |= {"stack": f"s{stack}", "patient_id": f"p{number // 4}", "split": split, "bright": str(stack % 2)}
    write_manifest(site.manifest, rows)
    return load_dataset(read_manifest(site, study, ("bright",)), study)


def test_the_mean_of_each_group_and_its_label() -> None:
    output, target = torch.tensor([[1.0], [10.0], [3.0], [99.0]]), torch.tensor([5.0, 7.0, 5.0, 0.0])
    answers, labels = grouped(output, target, torch.tensor([0, 1, 0, -1]), 1)
    assert answers.tolist() == [[2.0], [10.0]]
    assert labels.tolist() == [5.0, 7.0]


def test_attention_weights_are_the_softmax_within_a_group() -> None:
    # exp(0) : exp(log 3) = 1 : 3, so (1 + 3 * 3) / 4; the other group's score does not enter
    output = torch.tensor([[1.0, 0.0], [3.0, math.log(3)], [10.0, 50.0]])
    answers, _ = grouped(output, torch.zeros(3), torch.tensor([0, 0, 1]), 1)
    assert answers.flatten().tolist() == pytest.approx([2.5, 10.0])


@pytest.mark.parametrize("kind", [{"kind": "binary"}, {"kind": "ordinal", "classes": ["1", "2", "3"]}], ids=["b", "o"])
def test_with_a_linear_head_weighting_outputs_is_weighting_embeddings(kind: dict[str, Any]) -> None:
    study = study_of({"bright": {**kind, "group": "stack", "pooling": "attention"}})
    model = MultiTaskModel(study, ("bright",))
    pyramid, branch = model.encoder(torch.rand(3, 1, 16, 16)), model.branches["bright"]
    output, embeddings = branch.finish(pyramid, None, [], [], None)  # type: ignore[operator]
    weights = branch.importance(embeddings).softmax(0)  # type: ignore[operator]
    assert weights.std() > 0
    wanted = branch.head((weights * embeddings).sum(0, keepdim=True))  # type: ignore[operator]
    found, _ = grouped(output, torch.zeros(3), torch.zeros(3, dtype=torch.int64), model.kinds["bright"].channels)
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_a_group_of_one_is_no_group(pooling: str) -> None:
    model = MultiTaskModel(study_of({"bright": {**GROUPED, "pooling": pooling}}), ("bright",))
    images, target = torch.rand(3, 1, 16, 16), torch.tensor([1.0, 0.0, 0.0])
    output, marks = model(images)["bright"], torch.tensor([1.0, 1.0, 0.0])
    assert output.shape[1] == (2 if pooling == "attention" else 1)
    plain = Batch(images, {"bright": target}, {"bright": marks}, {"bright": 2})
    alone = Batch(images, {"bright": target}, {"bright": marks}, {"bright": 2}, {"bright": torch.tensor([4, 1, -1])})
    wanted = task_loss(model, "bright", output[:, :1], plain, 2)
    assert torch.allclose(task_loss(model, "bright", output, alone, 2), wanted)


def test_every_image_of_a_group_teaches_and_an_unlabelled_one_does_not() -> None:
    model = MultiTaskModel(study_of({"bright": GROUPED}), ("bright",))
    output = torch.zeros(3, 1, requires_grad=True)
    groups = {"bright": torch.tensor([0, 0, -1])}
    batch = Batch(
        torch.zeros(3, 1, 16, 16), {"bright": torch.ones(3)}, {"bright": torch.ones(3)}, {"bright": 3}, groups
    )
    task_loss(model, "bright", output, batch, 3).backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert output.grad.flatten().tolist() == [-0.25, -0.25, 0.0]  # one case: sigmoid(0) - 1, half for each image


def test_figures_count_groups_and_take_the_groups_label(tmp_path: Path) -> None:
    study = study_of({"bright": GROUPED})
    data, model = stacks(tmp_path, study), MultiTaskModel(study, ("bright",))
    found = gathered(model, data, study, "val", CPU)["bright"]
    with torch.inference_mode():
        each = model.eval()(data.images[12:16])["bright"]
    assert torch.allclose(found.answers, torch.stack((each[:2].mean(0), each[2:].mean(0))), atol=1e-6)
    assert found.truths.tolist() == [0.0, 1.0]  # stacks 6 and 7
    assert found.patients.tolist() == [3, 3]
    rows = evaluate(model, data, study, CPU, stage=Stage.TRAINED)
    counts = {(row.split, row.name): row.count for row in rows}
    assert counts["val", "loss"] == counts["test", "brier"] == 2
    assert counts["val", "sensitivity"] == counts["val", "specificity"] == 1


def test_batching_does_not_part_a_group_when_it_is_measured(tmp_path: Path) -> None:
    study = study_of({"bright": {**GROUPED, "pooling": "attention"}})
    data, model = stacks(tmp_path, study), MultiTaskModel(study, ("bright",))
    other = study_of({"bright": {**GROUPED, "pooling": "attention"}}, training={"batch": 1})
    one, two = (gathered(model, data, each, "val", CPU)["bright"] for each in (study, other))
    assert torch.allclose(one.answers, two.answers, atol=1e-5)
    assert len(one.answers) == 2


def test_the_images_of_a_group_follow_one_another_in_drawn_order() -> None:
    groups = np.array([0, 1, 2, 3] * 3 + [-1] * 3)
    orders = set()
    for seed in range(5):
        batches = list(epoch_batches(np.arange(15), 3, np.random.default_rng(seed), groups))
        assert sorted(np.concatenate(batches).tolist()) == list(range(15))
        seen = [int(number) for number, _ in itertools.groupby(groups[np.concatenate(batches)].tolist())]
        assert sorted(seen) == [-1, 0, 1, 2, 3]
        orders.add(tuple(seen))
    assert len(orders) > 1


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_holds_whole_groups(seed: int) -> None:
    groups = np.array([0] * 5 + [1] * 5 + [2] * 2 + [3] * 11 + [-1] * 4)
    batches = list(epoch_batches(np.arange(len(groups)), 8, np.random.default_rng(seed), groups))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(groups)))
    homes = [{int(group) for group in groups[batch] if group >= 0} for batch in batches]
    assert sum(map(len, homes)) == 4, "each group lies in one batch"
    assert all(len(batch) <= 9 or 3 in groups[batch] for batch in batches), "only a large group makes a large batch"


def test_a_study_has_one_column_of_groups() -> None:
    with pytest.raises(ValueError, match="found the groups patient, slide; expected one column"):
        study_of({"a": {"kind": "binary", "group": "slide"}, "b": {"kind": "binary", "group": "patient"}})
