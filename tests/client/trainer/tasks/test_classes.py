"""Classes: losses and probabilities by hand, findings that are uncertain or not stated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyward_client.trainer.cells import Cell, CellError
from polyward_client.trainer.tasks import TaskKind, kind_of
from polyward_client.trainer.tasks.classes import ranks
from polyward_client.trainer.tasks.ordinal import Ordered, corn
from polyward_shared.study import Study
from tests.support.images import make_study

HEAD = nn.Identity()
LOG2 = math.log(2)


def kind(**task: Any) -> TaskKind:
    data = make_study().model_dump(mode="json")
    return kind_of(Study.model_validate({**data, "tasks": {"task": task}}), "task")


def cells(*texts: str) -> list[Cell | None]:
    return [Cell("column", text, Path(), (1, 1)) if text else None for text in texts]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def figures(kind: TaskKind, answers: Tensor, truths: Tensor) -> dict[str, tuple[float, int]]:
    return {name: (value, count) for name, value, count in kind.figures(answers, truths, HEAD)}


# Multilabel


@pytest.mark.parametrize(("policy", "value"), [("ignore", math.nan), ("positive", 1.0), ("negative", 0.0)])
def test_an_uncertain_finding_is_what_the_study_makes_of_it(policy: str, value: float) -> None:
    findings = kind(kind="multilabel", classes=["a", "b", "c"], uncertain=policy)
    label = findings.label(cells("1", "-1", "0"))
    assert label == pytest.approx((1.0, value, 0.0), nan_ok=True)
    each = findings.losses(torch.tensor([[0.0, 3.0, 0.0]]), torch.tensor([label]), HEAD)
    middle = {"ignore": [], "positive": [softplus(-3)], "negative": [softplus(3)]}[policy]
    parts = [LOG2, LOG2, *middle]
    assert each.tolist() == pytest.approx([sum(parts) / len(parts)])


def test_a_row_without_any_finding_has_no_label_and_a_wrong_number_is_told() -> None:
    findings = kind(kind="multilabel", classes=["a", "b"])
    assert findings.label(cells("", "")) is None
    assert findings.label(cells("-1", "")) is None  # nothing to learn under `ignore`
    assert findings.label(cells("", "1")) == pytest.approx((math.nan, 1.0), nan_ok=True)
    with pytest.raises(CellError, match="1, 0, or -1"):
        findings.label(cells("2", "0"))


def test_a_finding_that_is_not_stated_has_no_gradient() -> None:
    findings, output = kind(kind="multilabel", classes=["a", "b"]), torch.zeros(2, 2, requires_grad=True)
    target = torch.tensor([[1.0, math.nan], [math.nan, math.nan]])
    each = findings.losses(output, target, HEAD)
    each.sum().backward()  # type: ignore[no-untyped-call]
    assert each.tolist() == pytest.approx([LOG2, 0.0])
    assert output.grad is not None
    assert output.grad.tolist() == [[-0.5, 0.0], [0.0, 0.0]]


def test_findings_are_ranked_among_the_cases_that_state_them() -> None:
    findings = kind(kind="multilabel", classes=["a", "b", "c"])
    answers = torch.tensor([[3.0, 1.0, 0.0], [2.0, 2.0, 0.0], [1.0, 9.0, 0.0]])
    # a: perfect; b: the unstated case would spoil it, without it all wrong; c: one value alone has no ranking
    truths = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, math.nan, 1.0]])
    found = figures(findings, answers, truths)
    assert found["macro_auroc"] == (0.5, 2)  # b is known of two cases
    assert found["mean_precision"] == (0.75, 2)
    assert findings.smallest(truths) == 2
    assert findings.smallest(truths[:, 2:].expand(-1, 3)) == 0  # nothing can be ranked


def test_a_case_of_which_no_finding_is_known_teaches_nothing() -> None:
    target = torch.tensor([[1.0, math.nan], [math.nan, math.nan]])
    assert kind(kind="multilabel", classes=["a", "b"]).informs(target).tolist() == [True, False]


# Ordinal


def test_corn_asks_a_threshold_only_where_the_one_before_is_passed() -> None:
    output = torch.tensor([[2.0, -1.0]]).expand(3, -1)
    wanted = [softplus(2) / 2, (softplus(-2) + softplus(-1)) / 2, (softplus(-2) + softplus(1)) / 2]
    assert corn(output, torch.tensor([0, 1, 2])).tolist() == pytest.approx(wanted)


def test_corns_best_constant_answer_is_the_share_of_cases() -> None:
    output = torch.tensor([[0.0, 20.0, 20.0]], requires_grad=True)  # P(y > 0) = 1/2, then all the way up
    (slope,) = torch.autograd.grad(corn(output.expand(2, -1), torch.tensor([0, 3])).sum(), output)
    assert slope.flatten().tolist() == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize(("loss", "chance"), [("corn", 0.5 * 0.25), ("coral", 0.25)])
def test_the_chance_of_passing_by_hand(loss: str, chance: float) -> None:
    grades = kind(kind="ordinal", classes=["1", "2", "3"], loss=loss)
    output = torch.tensor([[0.0, -math.log(3)]])  # sigmoids 0.5 and 0.25
    assert grades.evidence(output)[0].tolist() == pytest.approx([0.5, 0.5 - chance, chance])


@pytest.mark.parametrize("loss", ["corn", "coral"])
def test_probabilities_of_grades_are_never_negative_and_sum_to_one(loss: str) -> None:
    torch.manual_seed(0)
    grades = kind(kind="ordinal", classes=["1", "2", "3", "4", "5"], loss=loss)
    head = grades.head(8)
    assert isinstance(head, Ordered) == (loss == "coral")
    found = grades.evidence(head(20 * torch.randn(100, 8)))
    assert bool((found >= -1e-6).all())
    assert torch.allclose(found.sum(1), torch.ones(100), atol=1e-5)


@pytest.mark.parametrize("loss", ["corn", "coral"])
def test_two_grades_are_a_binary_task(loss: str) -> None:
    grades = kind(kind="ordinal", classes=["low", "high"], loss=loss)
    each = grades.losses(torch.tensor([[1.5], [1.5]]), torch.tensor([0, 1]), HEAD)
    assert each.tolist() == pytest.approx([softplus(1.5), softplus(-1.5)])


def test_corns_grade_needs_the_product_to_pass() -> None:
    grades = kind(kind="ordinal", classes=["1", "2", "3"], loss="corn")
    answers = torch.tensor([[0.5, 0.5]]).logit().expand(2, -1) + 0.1  # each above one half, both together below
    found = figures(grades, answers, torch.tensor([1, 1]))
    assert found["mae"] == (0.0, 2)


# Multiclass and binary


SURE = torch.tensor([18.0, 19.0, -1.0, -2.0, 25.0, 30.0])  # sigmoids in single precision: 1 from 18 on
SURE_TRUTHS = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])


def test_sure_answers_are_still_ranked() -> None:
    found = figures(kind(kind="binary"), SURE[:, None], SURE_TRUTHS)
    assert (found["auroc"][0], found["average_precision"][0]) == (1.0, 1.0)
    found = figures(kind(kind="multilabel", classes=["a"]), SURE[:, None], SURE_TRUTHS[:, None])
    assert (found["macro_auroc"], found["mean_precision"]) == ((1.0, 6), (1.0, 6))
    answers = torch.stack((0 * SURE, SURE), 1)
    assert figures(kind(kind="multiclass", classes=["a", "b"]), answers, SURE_TRUTHS.long())["macro_auroc"][0] == 1.0


def test_ranks_keep_order_and_ties() -> None:
    assert ranks(torch.tensor([7.0, -90.0, 7.0, 300.0])).tolist() == [0.5, 0.0, 0.5, 1.0]
    assert ranks(torch.tensor([4.0, 4.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("truths", "fewest"), [([1, 0, 0, 0, 1], 2), ([0, 1, 1, 1], 1), ([0, 0], 0), ([1, 1], 0)])
def test_a_binary_tasks_figures_speak_of_the_rarer_class(truths: list[float], fewest: int) -> None:
    assert kind(kind="binary").smallest(torch.tensor(truths, dtype=torch.float32)) == fewest


def test_label_smoothing_by_hand() -> None:
    output = torch.tensor([[0.5, 0.25, 0.25]]).log()
    plain = kind(kind="multiclass", classes=["a", "b", "c"])
    smooth = kind(kind="multiclass", classes=["a", "b", "c"], label_smoothing=0.3)
    target = torch.tensor([0])
    assert plain.losses(output, target, HEAD).tolist() == pytest.approx([LOG2])
    # 0.7 log 2 + 0.1 (log 2 + 2 log 4)
    assert smooth.losses(output, target, HEAD).tolist() == pytest.approx([1.2 * LOG2])


def test_the_macro_area_needs_every_class() -> None:
    shapes = kind(kind="multiclass", classes=["a", "b", "c"])
    answers = 5 * torch.eye(3)
    assert figures(shapes, answers, torch.tensor([0, 1, 2]))["macro_auroc"] == (1.0, 3)
    assert "macro_auroc" not in figures(shapes, answers, torch.tensor([0, 1, 1]))


def test_positive_cases_weigh_as_the_study_says() -> None:
    weighted = kind(kind="binary", positive_weight=3.0)
    each = weighted.losses(torch.zeros(2, 1), torch.tensor([1.0, 0.0]), HEAD)
    assert each.tolist() == pytest.approx([3 * LOG2, LOG2])


@pytest.mark.parametrize(
    ("task", "target", "wanted"),
    [
        ({"kind": "binary"}, torch.tensor([1.0]), [[0.0, 1.0]]),
        ({"kind": "multiclass", "classes": ["a", "b", "c"]}, torch.tensor([1]), [[0.0, 1.0, 0.0]]),
        ({"kind": "ordinal", "classes": ["1", "2", "3"]}, torch.tensor([2]), [[0.0, 0.0, 1.0]]),
        ({"kind": "multilabel", "classes": ["a", "b"]}, torch.tensor([[1.0, math.nan]]), [[1.0, 0.5]]),
    ],
)
def test_a_true_label_has_the_form_of_the_evidence(task: dict[str, Any], target: Tensor, wanted: Any) -> None:
    made = kind(**task)
    truth = made.truth(target)
    assert truth is not None
    assert truth.tolist() == wanted
    assert made.evidence(torch.zeros(1, made.channels)).shape == truth.shape == (1, made.evidence_width)
