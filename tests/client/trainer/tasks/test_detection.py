"""Detection: boxes from the manifest to the heat maps, and back to the figures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polyward_client.trainer.cells import Cell, CellError
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.detection import (
    DetectionKind,
    average_precision,
    drawn,
    froc,
    intersection_over_union,
    matched,
)
from polyward_shared.study import Image
from polyward_shared.tasks import Detection

NO_HEAD = nn.Identity()
NAN = math.nan
ONE = DetectionKind("nodules", Detection(kind="detection", most=3))
TWO = DetectionKind("nodules", Detection(kind="detection", classes=("solid", "part solid"), most=4))


def cell(text: str, size: tuple[int, ...] = (10, 20)) -> list[Cell | None]:
    return [Cell("nodules", text, Path(), size)]


def boxes(kind: DetectionKind, *rows: tuple[float, ...], dims: int = 2) -> Tensor:
    """A target [1, most, 2 dims + 1] with these boxes first."""
    target = torch.full((1, kind.most, 2 * dims + 1), NAN)
    for place, row in enumerate(rows):
        target[0, place] = torch.tensor(row)
    return target


def test_borders_of_columns_and_rows_become_corners_in_array_order() -> None:
    assert ONE.label(cell("0 0 20 10")) == ((-0.5, -0.5, 9.5, 19.5, 0),)
    assert ONE.label(cell("2 1 5 3 object; 0 0 1 1")) == ((0.5, 1.5, 2.5, 4.5, 0), (-0.5, -0.5, 0.5, 0.5, 0))
    assert ONE.label(cell("1 2 3 4 6 8", (5, 7, 9))) == ((0.5, 1.5, 2.5, 3.5, 5.5, 7.5, 0),)


def test_a_class_is_named_or_numbered_and_none_is_no_box() -> None:
    label = TWO.label(cell("0 0 1 1 part solid; 0 0 1 1 0"))
    assert label is not None
    assert [box[-1] for box in label] == [1, 0]
    assert TWO.label(cell("none")) == ()
    assert TWO.label([None]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 1 1; " * 4 + "0 0 1 1", "found 5 boxes; expected at most 4"),
        ("0 0 1 1", "found '0 0 1 1'; expected x0 y0 x1 y1 and a class for each box, or none"),
        ("0 0 1 1 cyst", "found 'cyst'; expected one of solid, part solid"),
        ("0 0 1 b solid", "found 'b'; expected a number"),
        ("3 0 3 1 solid", "expected x0 < x1 and y0 < y1, inside the image of 20 x 10"),
        ("0 0 21 1 solid", "inside the image of 20 x 10"),
    ],
)
def test_wrong_cells_are_told(text: str, message: str) -> None:
    with pytest.raises(CellError, match=message):
        TWO.label(cell(text))


def test_a_box_follows_the_image_into_the_studys_form() -> None:
    picture, image = Picture(np.zeros((1, 10, 20), np.float32)), Image(size=(40, 40))
    label = ONE.label(cell("2 1 5 3"))
    assert label is not None
    target = ONE.target(label, picture, image)
    assert target.shape == ONE.blank(image).shape == (3, 5)
    assert target[0].tolist() == [11.5, 3.5, 15.5, 9.5, 0]  # twice as large, 10 rows of padding above
    assert np.isnan(target[1:]).all()
    assert np.isnan(ONE.target((), picture, image)).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_is_drawn_as_its_centre_and_sides(dims: int) -> None:
    corner = (1.5, 2.5, 0.5)[:dims], (6.5, 4.5, 2.5)[:dims]  # sides 5, 2, 2; centre 4, 3.5, 1.5
    target = boxes(TWO, (*corner[0], *corner[1], 1.0), dims=dims)
    heat, sides, count = drawn(target, (9, 8, 7)[:dims], 2)
    assert heat.shape == (1, 2, *(9, 8, 7)[:dims])
    assert count.tolist() == [1]
    assert (heat == 1).nonzero().tolist() == [[0, 1, 4, 4, 2][: dims + 2]]
    assert not heat[0, 0].any()
    at = (0, slice(None), 4, 4, 2)[: dims + 2]
    assert torch.allclose(sides[at], torch.tensor([5.0, 2.0, 2.0][:dims]).log())
    assert heat[(0, 1, 5, 4, 2)[: dims + 2]].item() == pytest.approx(math.exp(-0.5 * (6 / 5) ** 2))


def test_a_box_whose_centre_left_the_image_is_no_box() -> None:
    heat, _, count = drawn(boxes(ONE, (-6.5, 1.5, 1.5, 3.5, 0)), (8, 8), 1)
    assert not heat.any()
    assert count.tolist() == [0]


def test_where_boxes_of_a_class_overlap_the_larger_heat_counts() -> None:
    heat, _, _ = drawn(boxes(ONE, (-0.5, -0.5, 6.5, 6.5, 0), (1.5, 1.5, 8.5, 8.5, 0)), (9, 9), 1)
    assert (heat == 1).nonzero().tolist() == [[0, 0, 3, 3], [0, 0, 5, 5]]


def test_loss_of_an_empty_image_by_hand() -> None:
    found = ONE.losses(torch.zeros(1, 3, 4, 4), boxes(ONE), NO_HEAD)  # a fresh network says 1 % everywhere
    assert found.item() == pytest.approx(16 * 0.01**2 * -math.log(0.99), rel=1e-4)


def test_loss_at_a_centre_by_hand() -> None:
    output = torch.zeros(1, 3, 1, 1)
    output[0, 1:, 0, 0] = torch.tensor([0.0, math.log(2)])
    target = boxes(ONE, (-0.5, -1.5, 0.5, 2.5, 0))  # sides 1 and 4
    focal, size = 0.99**2 * math.log(100), (0 + math.log(2)) / 2
    assert ONE.losses(output, target, NO_HEAD).item() == pytest.approx(focal + size, rel=1e-4)


def test_equal_boxes_elsewhere_cost_more_and_the_class_matters() -> None:
    target = boxes(TWO, (1.5, 1.5, 5.5, 5.5, 0))
    right = ideal(TWO, target, (12, 12))
    away = ideal(TWO, boxes(TWO, (5.5, 5.5, 9.5, 9.5, 0)), (12, 12))
    other = ideal(TWO, boxes(TWO, (1.5, 1.5, 5.5, 5.5, 1)), (12, 12))
    losses = [TWO.losses(output, target, NO_HEAD).item() for output in (right, away, other)]
    assert losses[0] < 0.5
    assert min(losses[1:]) > 5


def ideal(kind: DetectionKind, target: Tensor, size: tuple[int, ...]) -> Tensor:
    """An output that shows just these boxes."""
    heat, sides, _ = drawn(target, size, len(kind.names))
    logits = torch.where(heat == 1, 12.0, -4.0) + heat
    return torch.cat((logits, sides), 1)


def test_right_boxes_are_perfect_in_2d_and_3d() -> None:
    target = boxes(TWO, (0.5, 0.5, 5.5, 5.5, 0), (5.5, 6.5, 10.5, 9.5, 1))
    flat = measured(TWO, ideal(TWO, target, (12, 12)), target)
    assert flat == pytest.approx({"average_precision": 1, "froc": 1})
    kind = DetectionKind("nodules", Detection(kind="detection", most=2), dims=3)
    target = boxes(kind, (0.5, 0.5, 0.5, 5.5, 3.5, 5.5, 0), dims=3)
    assert kind.channels == 4
    assert measured(kind, ideal(kind, target, (8, 8, 8)), target) == pytest.approx({"average_precision": 1, "froc": 1})


def test_found_boxes_end_at_the_image_and_scores_fall() -> None:
    output = torch.full((1, 3, 8, 8), -5.0)
    output[0, 0, 0, 0], output[0, 0, 6, 6] = 9, 10
    output[0, 1:] = 50  # sides beyond all bounds
    scores, _, corners = ONE.found(output)
    assert (scores[0, :-1] >= scores[0, 1:]).all()
    assert corners[0, :2].tolist() == [[-0.5, -0.5, 7.5, 7.5]] * 2
    assert corners.isfinite().all()


def test_a_map_with_fewer_summits_than_boxes_leaves_the_rest_open() -> None:
    output = torch.arange(9.0).reshape(1, 1, 3, 3).expand(1, 3, 3, 3)  # rises to one corner
    assert ONE.found(output)[0].isnan().tolist() == [[False, True, True]]
    assert ONE.answers(output[..., :1, :1], boxes(ONE)).shape == (1, 10)


def test_a_true_box_is_found_once_by_the_best_score_of_its_class() -> None:
    target = boxes(TWO, (0, 0, 4, 4, 0), (10, 10, 14, 14, 1))
    found = torch.tensor([[[0, 0, 4, 3], [0, 0, 4, 4], [10, 10, 14, 14], [0, 0, 4, 1]]], dtype=torch.float32)
    right = matched(found, torch.zeros(1, 4), target, (16, 16), 0.5)
    assert right.tolist() == [[True, False, False, False]]  # taken already, of another class, too little overlap
    assert matched(found, torch.tensor([[0, 0, 1, 0]]), target, (16, 16), 0.5).tolist() == [[True, False, True, False]]


def test_intersection_over_union() -> None:
    a = torch.tensor([0.0, 0, 2, 2])
    assert intersection_over_union(a, torch.tensor([1.0, 0, 3, 2])).item() == pytest.approx(1 / 3)
    assert intersection_over_union(a, torch.tensor([5.0, 5, 6, 6])).item() == 0
    assert (
        intersection_over_union(torch.tensor([0.0, 0, 0, 2, 2, 2]), torch.tensor([0.0, 0, 0, 1, 1, 1])).item() == 1 / 8
    )


def test_average_precision_and_froc_by_hand() -> None:
    scores, right = torch.tensor([0.7, 0.9, 0.8]), torch.tensor([1.0, 1.0, 0.0])  # right, wrong, right in order
    assert average_precision(scores, right, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, right, 4) == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision(scores[:0], right[:0], 2) == 0
    assert froc(scores, right, 2, images=1) == pytest.approx((3 * 0.5 + 4 * 1) / 7)
    assert froc(scores, right, 2, images=8) == 1  # one false positive in 8 images


def test_precision_is_the_best_at_a_higher_recall() -> None:
    scores, right = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.0, 1.0, 1.0])
    assert average_precision(scores, right, 2) == pytest.approx(2 / 3)


def test_classes_that_do_not_occur_are_left_out_and_no_box_is_no_figure() -> None:
    target = boxes(TWO, (0.5, 0.5, 5.5, 5.5, 1))
    assert measured(TWO, ideal(TWO, target, (12, 12)), target)["average_precision"] == pytest.approx(1)
    assert measured(TWO, ideal(TWO, target, (12, 12)), boxes(TWO)) == {}


def test_evidence_is_the_chance_of_a_centre() -> None:
    found = TWO.evidence(torch.zeros(1, 4, 2, 2))
    assert found.shape == (1, TWO.evidence_width, 2, 2)
    assert torch.allclose(found, torch.tensor(0.01))
    assert TWO.unsure == 0


@pytest.mark.usefixtures("deterministic")
def test_a_small_network_learns_boxes_and_their_classes() -> None:
    torch.manual_seed(0)
    images, target = blocks(4)
    network = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(),
        nn.Conv2d(12, 12, 5, padding=4, dilation=2), nn.ReLU(), nn.Conv2d(12, 4, 3, padding=1),
    )  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    before = measured(TWO, network(images), target)
    for _ in range(150):
        optimiser.zero_grad()
        TWO.losses(network(images), target, NO_HEAD).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = measured(TWO, network(images), target)
    assert before["average_precision"] < 0.2
    assert after["average_precision"] > 0.95
    assert after["froc"] > 0.95


def blocks(count: int) -> tuple[Tensor, Tensor]:
    """Images with a bright block above, class 0, and a dark one below, class 1."""
    generator = np.random.default_rng(0)
    images, target = torch.zeros(count, 1, 16, 16), torch.full((count, 4, 5), NAN)
    for case in range(count):
        for number in (0, 1):
            sides = generator.integers(3, 7, 2)
            low = generator.integers(0, [8 - sides[0] + 1, 16 - sides[1] + 1])
            low[0] += 8 * number
            high = low + sides
            images[case, 0, low[0] : high[0], low[1] : high[1]] = 1 - 2 * number
            target[case, number] = torch.tensor([*(low - 0.5), *(high - 0.5), number])
    return images, target


def measured(kind: DetectionKind, output: Tensor, target: Tensor) -> dict[str, float]:
    answers = kind.answers(output.detach(), target)
    return {name: value for name, value, _ in kind.figures(answers, target, NO_HEAD)}
