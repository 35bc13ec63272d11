"""Landmarks: a point stays on its pixel from the manifest to the summit of its heat map."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polyward_client.trainer.cells import Cell, CellError
from polyward_client.trainer.form import shaped, shaped_points
from polyward_client.trainer.images import Picture
from polyward_client.trainer.tasks.landmark import LandmarkKind, bells, summits
from polyward_shared.study import Image
from polyward_shared.tasks import Landmark

NO_HEAD = nn.Identity()
NAN = math.nan
KIND = LandmarkKind("valves", Landmark(kind="landmark", points=("mitral", "aortic"), sigma=1.5, tolerance=2))


def cell(text: str, size: tuple[int, ...] = (10, 20)) -> list[Cell | None]:
    return [Cell("valves", text, Path(), size)]


def test_a_place_is_column_and_row_in_2d_and_the_volumes_axes_in_3d() -> None:
    assert KIND.label(cell("19 3.5; 0 9")) == ((3.5, 19), (9, 0))
    assert KIND.label(cell("7 8 9; 1 2 3", (8, 9, 10))) == ((7, 8, 9), (1, 2, 3))
    assert KIND.label([None]) is None


def test_an_unseen_place_is_a_dash() -> None:
    label = KIND.label(cell("-; 4 5"))
    assert label is not None
    assert np.isnan(label[0]).all()
    assert label[1] == (5, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2", "found 1 places; expected 2 places, for mitral, aortic"),
        ("1 2; 3", "found '3'; expected x y for each place, or -"),
        ("1 2; 3 x", "found 'x'; expected a number"),
        ("1 2; 20 3", "found '20 3'; expected places inside the image, 20 x 10"),
        ("1 2; 3 -1", "inside the image"),
    ],
)
def test_wrong_cells_are_told(text: str, message: str) -> None:
    with pytest.raises(CellError, match=message):
        KIND.label(cell(text))


@pytest.mark.parametrize(
    ("stored", "spacing", "image"),
    [
        ((24, 48), None, Image(size=(32, 32), intensity=(0.0, 1.0))),
        ((48, 24), None, Image(size=(48, 48), intensity=(0.0, 1.0))),
        ((12, 10), None, Image(size=(41, 33), intensity=(0.0, 1.0))),
        ((12, 16, 8), (2.0, 1.0, 2.0), Image(size=(24, 20, 20), spacing=(1.0, 1.0, 1.0), intensity=(0.0, 1.0))),
    ],
)
def test_a_bright_spot_and_its_point_stay_together(
    stored: tuple[int, ...], spacing: tuple[float, ...] | None, image: Image
) -> None:
    place = np.asarray([[4.0, 6.0, 3.0][: len(stored)]])
    values = bells(torch.from_numpy(place), stored, 1.2).numpy().astype(np.float32)
    picture = Picture(values, spacing)
    moved = shaped_points(place, picture, image, where="")[0]
    after = shaped(picture, image, where="")[0]
    centre = [(np.indices(image.size)[axis] * after).sum() / after.sum() for axis in range(len(stored))]
    assert np.allclose(centre, moved, atol=0.1)


def test_the_form_of_a_point_by_hand() -> None:
    picture = Picture(np.zeros((1, 4, 8), np.float32))
    points = np.asarray([[0.0, 0.0], [-0.5, 7.5], [NAN, 1.0]])
    found = shaped_points(points, picture, Image(size=(16, 16)), where="")  # twice as large, 4 rows of padding above
    assert np.allclose(found, [[4.5, 0.5], [3.5, 15.5], [NAN, 2.5]], equal_nan=True)


def test_target_and_blank_have_one_shape() -> None:
    picture, image = Picture(np.zeros((1, 8, 8), np.float32)), Image(size=(16, 16))
    target = KIND.target(((2.0, 3.0), (NAN, NAN)), picture, image)
    assert target.dtype == np.float32
    assert np.allclose(target, [[4.5, 6.5], [NAN, NAN]], equal_nan=True)
    assert KIND.blank(image).shape == (2, 2)
    assert np.isnan(KIND.blank(image)).all()


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (12, 12, 12)])
def test_an_empty_map_costs_the_same_at_every_size_and_a_bell_nothing(size: tuple[int, ...]) -> None:
    target = torch.full((1, 2, len(size)), 6.25)
    empty, right = torch.zeros(1, 2, *size), bells(target, size, 1.5)
    assert KIND.losses(empty, target, NO_HEAD).item() == pytest.approx(math.log(2))
    assert KIND.losses(right, target, NO_HEAD).item() == 0


def test_an_error_on_the_summit_costs_eleven_times_one_on_the_background() -> None:
    target = torch.tensor([[[4.0, 4.0]]]).expand(2, 2, 2)
    output = bells(target, (32, 32), 1.5)
    output[0, :, 4, 4] -= 0.01
    output[1, :, 30, 30] -= 0.01
    summit, background = KIND.losses(output, target, NO_HEAD).expm1().tolist()
    assert summit / background == pytest.approx(11, rel=0.01)


def test_points_unseen_or_outside_cost_nothing() -> None:
    target = torch.tensor([[[5.0, 5.0], [NAN, NAN]], [[NAN, NAN], [NAN, NAN]], [[5.0, 5.0], [40.0, 3.0]]])
    output = torch.zeros(3, 2, 16, 16)
    output[:, 1] = 9
    output.requires_grad_()
    found = KIND.losses(output, target, NO_HEAD)
    assert found.tolist() == pytest.approx([math.log(2), 0, math.log(2)])
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert output.grad.isfinite().all()
    assert not output.grad[:, 1].any()


@pytest.mark.parametrize("place", [(7.0, 4.0), (7.3, 4.6), (0.0, 15.0), (6.5, 8.5, 3.25)])
def test_the_summit_lies_between_pixels(place: tuple[float, ...]) -> None:
    maps = bells(torch.tensor([[place]]), (16,) * len(place), 1.5)
    assert torch.allclose(summits(maps, 1.5)[0, 0], torch.tensor(place), atol=0.05)


def test_a_second_summit_does_not_draw_the_first() -> None:
    maps = bells(torch.tensor([[[3.0, 3.0]]]), (32, 32), 1.5) + 0.9 * bells(
        torch.tensor([[[25.0, 20.0]]]), (32, 32), 1.5
    )
    assert torch.allclose(summits(maps, 1.5)[0, 0], torch.tensor([3.0, 3.0]), atol=0.05)


def test_a_map_below_zero_still_has_a_highest_pixel() -> None:
    maps = torch.full((1, 1, 4, 4), -2.0)
    maps[0, 0, 1, 3] = -1
    assert summits(maps, 1.5).tolist() == [[[1, 3]]]


def test_radial_error_and_the_share_found() -> None:
    target = torch.tensor([[[5.0, 5.0], [8.0, 8.0]], [[5.0, 5.0], [NAN, NAN]]])
    seen = torch.tensor([[[5.0, 5.0], [8.0, 11.0]], [[5.0, 4.0], [3.0, 3.0]]])
    answers = KIND.answers(bells(seen, (16, 16), 1.5), target)
    assert torch.allclose(answers, torch.tensor([[0.0, 3.0], [1.0, NAN]]), atol=0.05, equal_nan=True)
    found = {name: (round(value, 2), count) for name, value, count in KIND.figures(answers, target, NO_HEAD)}
    assert found == {"radial_error": (1.33, 2), "found": (0.67, 2)}  # the tolerance is 2
    assert list(KIND.figures(torch.full((3, 2), NAN), target, NO_HEAD)) == []


def test_evidence_is_a_height_between_0_and_1() -> None:
    assert KIND.evidence(torch.tensor([-1.0, 0.5, 3.0])).tolist() == [0, 0.5, 1]
    assert (KIND.evidence_width, KIND.unsure, KIND.channels) == (2, 0, 2)


@pytest.mark.usefixtures("deterministic")
def test_a_small_network_learns_where_the_spots_are() -> None:
    torch.manual_seed(0)
    images, target = spots(4)
    network = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 2, 5, padding=2))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    before = figures(network, images, target)
    for _ in range(120):
        optimiser.zero_grad()
        KIND.losses(network(images), target, NO_HEAD).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = figures(network, images, target)
    assert before["radial_error"] > 2
    assert after["radial_error"] < 0.5
    assert after["found"] == 1


def spots(count: int) -> tuple[Tensor, Tensor]:
    """Images with a bright and a dark spot, which are the two points."""
    places = 2 + 11 * torch.rand(count, 2, 2)
    places[:, 1, 0] = (places[:, 0, 0] + 6) % 12 + 2  # apart from the bright one
    each = bells(places, (16, 16), 1.0)
    return (each[:, :1] - each[:, 1:]), places


def figures(network: nn.Module, images: Tensor, target: Tensor) -> dict[str, float]:
    with torch.inference_mode():
        answers = KIND.answers(network(images), target)
    return {name: value for name, value, _ in KIND.figures(answers, target, NO_HEAD)}


def test_a_case_without_a_seen_point_teaches_nothing() -> None:
    target = torch.tensor([[[1.0, 2.0], [NAN, NAN]], [[NAN, NAN], [NAN, NAN]], [[1.0, NAN], [NAN, NAN]]])
    assert KIND.informs(target).tolist() == [True, False, False]
    assert KIND.losses(torch.ones(3, 2, 8, 8), target, NO_HEAD)[1:].tolist() == [0, 0]
