"""Windows of an image: inside it, target and image together, half of them where there is something to see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polyward_client.trainer.dataset import Batch, windows
from polyward_client.trainer.tasks import Kinds, kinds_of
from polyward_shared.study import Study
from tests.support.images import make_study

SIDES, WINDOW, COUNT = (16, 12, 8), (8, 8, 4), 40


def kinds(**tasks: dict[str, Any]) -> Kinds:
    data = make_study(image={"size": [16, 8, 8]}).model_dump(mode="json")
    study = Study.model_validate({**data, "tasks": tasks})
    return kinds_of(study, tuple(tasks))


def batch(**targets: Tensor) -> Batch:
    """Images whose values are the numbers of their voxels."""
    numbers = torch.arange(math.prod(SIDES)).reshape(1, 1, *SIDES).expand(COUNT, -1, -1, -1, -1).float()
    return Batch(numbers, targets, {name: torch.ones(COUNT) for name in targets}, dict.fromkeys(targets, COUNT))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def corners(found: Tensor) -> list[tuple[int, ...]]:
    return [tuple(int(i) for i in np.unravel_index(int(number), SIDES)) for number in found[:, 0, 0, 0, 0]]


MASK = {"kind": "segmentation", "classes": ["lesion"]}


def marked(i: int, j: int, k: int, value: int = 1) -> Tensor:
    mask = torch.zeros(COUNT, *SIDES, dtype=torch.uint8)
    mask[:, i, j, k] = value
    return mask


def test_a_window_is_a_part_of_its_image_and_the_mask_goes_along() -> None:
    given = batch(mask=torch.randint(0, 2, (COUNT, *SIDES), dtype=torch.uint8))
    found = windows(given, kinds(mask=MASK), WINDOW, generator())
    assert found.images.shape == (COUNT, 1, *WINDOW)
    assert len(set(corners(found.images))) > COUNT // 2
    for place, corner in enumerate(corners(found.images)):
        i, j, k = (slice(start, start + side) for start, side in zip(corner, WINDOW, strict=True))
        assert torch.equal(found.images[place, 0], given.images[place, 0, i, j, k])
        assert torch.equal(found.targets["mask"][place], given.targets["mask"][place, i, j, k])


def test_every_corner_that_fits_is_reached() -> None:
    found = np.array(corners(torch.cat([windows(batch(), {}, WINDOW, generator(seed)).images for seed in range(9)])))
    assert found.min(0).tolist() == [0, 0, 0]
    assert found.max(0).tolist() == [8, 4, 4]


@pytest.mark.parametrize("place", [(0, 0, 0), (15, 11, 7), (8, 6, 4)])
def test_half_of_the_windows_hold_what_is_labelled(place: tuple[int, int, int]) -> None:
    small = (2, 2, 2)  # rarely there by chance
    found = windows(batch(mask=marked(*place)), kinds(mask=MASK), small, generator())
    hits = int(found.targets["mask"].flatten(1).any(1).sum())
    assert COUNT // 4 < hits < 3 * COUNT // 4
    assert not windows(batch(mask=marked(*place, value=0)), kinds(mask=MASK), small, generator()).targets["mask"].any()


def test_a_window_is_not_drawn_to_what_nobody_judged() -> None:
    ignored = kinds(mask={**MASK, "ignore": 9})
    found = windows(batch(mask=marked(0, 0, 0, value=9)), ignored, (2, 2, 2), generator())
    assert int(found.targets["mask"].flatten(1).any(1).sum()) < 3


def test_points_keep_their_place_and_are_absent_outside() -> None:
    landmarks = kinds(places={"kind": "landmark", "points": ["a"]})
    given = batch(places=torch.tensor([5.0, 6.0, 2.0]).expand(COUNT, 1, 3))
    wanted = given.images[0, 0, 5, 6, 2]
    found = windows(given, landmarks, WINDOW, generator())
    absent = 0
    for image, ((point,), corner) in zip(
        found.images[:, 0], zip(found.targets["places"], corners(found.images), strict=True), strict=True
    ):
        if bool(point.isnan().any()):
            absent += 1
            assert not bool((image == wanted).any())
        else:
            assert image[tuple(point.int().tolist())] == wanted, corner
    assert 0 < absent < COUNT


def test_the_same_generator_gives_the_same_windows() -> None:
    one, same, other = (windows(batch(), {}, WINDOW, generator(seed)).images for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_window_as_large_as_the_image_is_the_image() -> None:
    given = batch(mask=marked(3, 3, 3))
    found = windows(given, kinds(mask=MASK), SIDES, generator())
    assert torch.equal(found.images, given.images)
    assert torch.equal(found.targets["mask"], given.targets["mask"])


def test_half_of_the_windows_hold_a_point_or_a_box() -> None:
    landmarks = kinds(places={"kind": "landmark", "points": ["a", "b"]})
    points = torch.tensor([[15.0, 11.0, 7.0], [math.nan] * 3]).expand(COUNT, 2, 3)
    found = windows(batch(places=points), landmarks, (2, 2, 2), generator()).targets["places"]
    assert COUNT // 4 < int(found[:, 0].isfinite().all(-1).sum()) < 3 * COUNT // 4
    assert not found[:, 1].isfinite().any()
    boxes = torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0]]).expand(COUNT, 1, 7)
    found = windows(batch(nodules=boxes), kinds(nodules={"kind": "detection"}), (4, 4, 4), generator()).targets[
        "nodules"
    ]
    assert COUNT // 4 < int(found.isfinite().all(-1).sum()) < 3 * COUNT // 4 + 4


def test_pixels_reach_half_a_step_beyond_their_centres() -> None:
    """A box as large as its window keeps its size, a point at the very edge stays."""
    given = batch(
        nodules=torch.tensor([[-0.5, -0.5, -0.5, 15.5, 11.5, 7.5, 0.0]]).expand(COUNT, 1, 7),
        places=torch.tensor([-0.2, 11.4, 3.0]).expand(COUNT, 1, 3),
    )
    some = kinds(nodules={"kind": "detection"}, places={"kind": "landmark", "points": ["a"]})
    found = windows(given, some, SIDES, generator())
    assert torch.equal(found.targets["nodules"], given.targets["nodules"])
    assert torch.equal(found.targets["places"], given.targets["places"])
