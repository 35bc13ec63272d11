"""What every kind of task promises; an example of each, so that a new kind is under test."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks import TaskKind, kind_of
from polyward_shared.study import Image, Study
from polyward_shared.tasks import METRICS

SIDE = 16
CASES = 6
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[4:9, 3:12] = 1

# of each kind: its options, and the cells of two cases
EXAMPLES: dict[str, tuple[dict[str, Any], tuple[list[str], list[str]]]] = {
    "binary": ({}, (["0"], ["1"])),
    "multiclass": ({"classes": ["a", "b", "c"]}, (["a"], ["c"])),
    "multilabel": ({"classes": ["a", "b"]}, (["0", "1"], ["1", "-1"])),
    "ordinal": ({"classes": ["low", "middle", "high"]}, (["low"], ["high"])),
    "regression": ({}, (["1.5"], ["-2"])),
    "survival": ({"times": [1, 2, 4]}, (["0.5", "1"], ["3", "0"])),
    "segmentation": ({"classes": ["lesion"]}, (["mask.png"], ["mask.png"])),
    "landmark": ({"points": ["apex", "base"]}, (["3 4; 9 9"], ["5 5; -"])),
    "centreline": ({}, (["mask.png"], ["mask.png"])),
    "detection": ({"classes": ["nodule"]}, (["2 2 9 8 nodule"], ["none"])),
    "synthesis": ({"target": "file"}, (["other.png"], ["other.png"])),
}


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(METRICS)


@pytest.fixture(scope="module", params=sorted(EXAMPLES))
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskKind, Study, Tensor]:
    """A kind, its study, and the targets [cases, ...] of its example, the two cases in turns."""
    from PIL import Image as Pillow

    folder = tmp_path_factory.mktemp(request.param)
    Pillow.fromarray(MASK).save(folder / "mask.png")
    Pillow.fromarray(MASK * 200).save(folder / "other.png")
    options, texts = EXAMPLES[request.param]
    study = Study.model_validate(
        {
            "id": "one",
            "seed": 0,
            "rounds": 1,
            "image": {"size": [SIDE, SIDE]},
            "encoder": {"filters": 4, "blocks": [1, 1]},
            "tasks": {"it": {"kind": request.param, **options}},
        }
    )
    kind = kind_of(study, "it")
    picture = Picture(MASK[None].astype(np.float32), None)
    targets = [
        kind.target(
            kind.label([Cell(column, text, folder, (SIDE, SIDE)) for column, text in zip(columns, row, strict=True)]),
            picture,
            study.image,
        )
        for row in texts
        for columns in [kind.columns("it")]
    ]
    return kind, study, torch.from_numpy(np.stack([targets[case % 2] for case in range(CASES)]))


def outputs(kind: TaskKind, seed: int, *, size: float = 1.0) -> Tensor:
    shape = (CASES, kind.channels) if kind.level == "image" else (CASES, kind.channels, SIDE, SIDE)
    drawn = np.random.default_rng(seed).normal(0, size, shape).astype(np.float32)
    return torch.from_numpy(drawn).requires_grad_()


def test_losses_are_finite_never_negative_and_have_gradients(known: tuple[TaskKind, Study, Tensor]) -> None:
    kind, _, targets = known
    head = kind.head(4)
    for size in (1.0, 30.0):
        output = outputs(kind, 1, size=size)
        losses = kind.losses(output, targets, head)
        assert losses.shape == (CASES,)
        assert bool((losses >= 0).all())
        losses.sum().backward()  # type: ignore[no-untyped-call]
        assert output.grad is not None
        assert bool(output.grad.isfinite().all())
        assert bool(output.grad.any())


def test_figures_have_the_names_that_may_leave(known: tuple[TaskKind, Study, Tensor]) -> None:
    kind, study, targets = known
    answers = outputs(kind, 2).detach()
    if kind.level == "map":
        answers = kind.answers(answers, targets)
    figures = list(kind.figures(answers, targets, kind.head(4)))
    names = [name for name, _, _ in figures]
    allowed = METRICS[study.tasks["it"].kind]
    assert names
    assert set(names) <= set(allowed) - {"loss"}
    assert allowed[0] in names, "the figure that tables show"
    assert len(set(names)) == len(names)
    assert all(math.isnan(value) or isinstance(value, float) for _, value, _ in figures)
    assert all(cases >= 1 for _, _, cases in figures)


def test_evidence_has_its_width_and_something_stands_for_no_evidence(known: tuple[TaskKind, Study, Tensor]) -> None:
    kind, _, targets = known
    output = outputs(kind, 3).detach()
    evidence = kind.evidence(output)
    assert evidence.shape == (CASES, kind.evidence_width, *output.shape[2:])
    truth = kind.truth(targets)
    assert truth is None or truth.shape[:2] == evidence.shape[:2]
    assert evidence.min() - 0.1 <= kind.unsure <= evidence.max()


def test_a_case_without_a_label_has_a_target_of_the_same_form(known: tuple[TaskKind, Study, Tensor]) -> None:
    kind, study, targets = known
    blank = kind.blank(Image(size=study.image.size))
    assert blank.shape == tuple(targets.shape[1:])
    assert torch.from_numpy(np.asarray(blank)).dtype == targets.dtype


def test_a_case_that_teaches_nothing_costs_nothing(known: tuple[TaskKind, Study, Tensor]) -> None:
    kind, study, targets = known
    assert kind.informs(targets).tolist() == [True] * CASES
    blank = torch.from_numpy(np.asarray(kind.blank(Image(size=study.image.size))))
    some = targets.clone()
    some[0] = blank
    told = kind.informs(some)
    assert (told.shape, told.dtype, told.device) == ((CASES,), torch.bool, targets.device)
    assert kind.may_be_void or bool(told.all()), "nobody would ask"
    assert not kind.losses(outputs(kind, 4), some, kind.head(4))[~told].any()


def test_the_smallest_group_is_a_number_of_cases(known: tuple[TaskKind, Study, Tensor]) -> None:
    kind, _, targets = known
    truths = targets if kind.level == "image" else torch.zeros(CASES)  # as figures get them
    found = kind.smallest(truths)
    assert type(found) is int
    assert 0 < found <= CASES
