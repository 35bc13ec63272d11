"""What moves with an image lands where its pixels land, and the same seed gives the same bytes."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch import Tensor

from polyward_client.trainer.affine import moved_boxes, moved_points, warped
from polyward_client.trainer.augment import PRESETS, SHARE_BLURRED, SHARE_NOISY, Moved, Preset, augmented, varied
from polyward_shared.training import Augmentation

NAMES: tuple[Augmentation, ...] = get_args(Augmentation)
SIZES = [(40, 40), (32, 48), (28, 28, 20)]


def rules(**chosen: Any) -> Preset:
    """A preset that does only this."""
    return Preset(**chosen)


def spots(size: tuple[int, ...], count: int = 24, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images of a background of 0.1 with one bell at a random place, and the places [count, 1, dims]."""
    places = default_rng(7).uniform(0.15, 0.85, (count, len(size))) * size
    grid = np.stack(np.meshgrid(*[np.arange(side) for side in size], indexing="ij"), -1)
    far = ((grid[None] - places.reshape(count, *[1] * len(size), len(size))) ** 2).sum(-1)
    images = (0.1 + 0.9 * np.exp(-far / (2 * 2.0**2))).astype(np.float32)
    return torch.from_numpy(images)[:, None].repeat_interleave(channels, 1), torch.from_numpy(places).float()[:, None]


def brightest(image: Tensor) -> np.ndarray:
    """The centre of the bell: the mean place of what is near the maximum."""
    whole = image.mean(0).numpy()
    low = np.median(whole[whole > 0])
    weights = np.where(whole - low > 0.6 * (whole.max() - low), whole - low, 0)
    return np.stack([(np.indices(whole.shape)[axis] * weights).sum() / weights.sum() for axis in range(whole.ndim)])


def test_every_preset_of_the_study_exists() -> None:
    assert set(PRESETS) == set(NAMES)


def test_what_tells_left_from_right_has_presets_that_do_not_mirror() -> None:
    still = {name for name, rules in PRESETS.items() if "left_right" not in rules.mirror}
    assert still == {"none", "radiograph", "ct"}


def test_none_changes_nothing_and_draws_nothing() -> None:
    images, places = spots((8, 8), 2)
    generator = default_rng(0)
    after, moved = augmented(images, {"place": Moved("points", places)}, "none", generator)
    assert torch.equal(after, images)
    assert torch.equal(moved["place"], places)
    assert generator.random() == default_rng(0).random()


def test_light_is_a_mirror_of_columns_and_a_change_of_intensity_for_images_of_2_x_2() -> None:
    generator = default_rng(5)
    mirror = generator.random(4) < 0.5
    scale = generator.uniform(0.9, 1.1, 4).astype(np.float32)
    shift = generator.uniform(-0.05, 0.05, 4).astype(np.float32)
    assert 0 < mirror.sum() < 4
    images = torch.tensor([[0.0, 1.0], [2.0, 4.0]]).expand(4, 1, 2, 2)
    mask = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8).expand(4, 2, 2)
    again = default_rng(5)
    after, moved = augmented(images, {"mask": Moved("labels", mask)}, "light", again)
    for place in range(4):
        one, two, four = (np.float32(value) * scale[place] + shift[place] for value in (1, 2, 4))
        rows = [[one, 0], [four, two]] if mirror[place] else [[0, one], [two, four]]
        assert np.array_equal(after[place, 0].numpy(), np.asarray(rows, np.float32))
        assert moved["mask"][place].tolist() == ([[1, 0], [3, 2]] if mirror[place] else [[0, 1], [2, 3]])
    assert again.random() == generator.random()  # nothing else was drawn


def test_volumes_are_mirrored_along_their_first_axis() -> None:
    images = torch.arange(8.0).reshape(1, 1, 2, 2, 2).expand(20, 1, 2, 2, 2)
    after, _ = varied(images, {}, rules(mirror=("left_right",)), default_rng(0))
    flipped = [bool((image == images[0].flip(1)).all()) for image in after]
    assert flipped == (default_rng(0).random(20) < 0.5).tolist()


def test_an_affine_of_identity_gives_the_same_image() -> None:
    for size in ((6, 9), (4, 5, 6)):
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
        labels = (images[:, 0] * 200).to(torch.uint8)
        after, moved = varied(images, {"mask": Moved("labels", labels)}, rules(zoom=(1.0, 1.0 + 1e-12)), default_rng(0))
        assert torch.allclose(after, images, atol=1e-5)
        assert torch.equal(moved["mask"], labels)


@pytest.mark.parametrize("side", [4, 5])
def test_quarter_turns_are_those_of_rot90(side: int) -> None:
    image = torch.arange(1.0, side * side + 1).reshape(1, 1, side, side)
    labels = image[:, 0].to(torch.int64).expand(12, side, side)
    mask = {"mask": Moved("labels", labels)}
    after, moved = varied(image.expand(12, 1, side, side), mask, rules(quarter_turns=True), default_rng(0))
    turns = default_rng(0).integers(0, 4, 12)
    assert set(turns) == {0, 1, 2, 3}
    for place, turn in enumerate(turns):
        expected = np.rot90(image[0, 0].numpy(), turn)  # from rows towards columns, and so are ours
        assert np.allclose(after[place, 0], expected, atol=1e-4)
        assert np.array_equal(moved["mask"][place].numpy(), expected)


def test_oblong_images_are_turned_by_halves_only() -> None:
    image = torch.arange(1.0, 7.0).reshape(1, 1, 2, 3).expand(8, 1, 2, 3)
    after, _ = varied(image, {}, rules(quarter_turns=True), default_rng(0))
    for place, turn in enumerate(default_rng(0).integers(0, 4, 8)):
        assert torch.allclose(after[place], image[0].flip(1, 2) if turn > 1 else image[0], atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_a_point_follows_its_pixel(name: Augmentation, size: tuple[int, ...]) -> None:
    images, places = spots(size, channels=3 if len(size) == 2 else 1)
    after, moved = augmented(images, {"place": Moved("points", places)}, name, default_rng(3))
    seen = [number for number in range(len(images)) if not moved["place"][number].isnan().any()]
    assert len(seen) > 15
    inner = [n for n in seen if all(2 < p < s - 3 for p, s in zip(moved["place"][n, 0], size, strict=True))]
    assert len(inner) > 10
    for number in inner:
        assert np.abs(brightest(after[number]) - moved["place"][number, 0].numpy()).max() < 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_boxes_hold_the_moved_blob_and_labels_keep_their_values(name: Augmentation, size: tuple[int, ...]) -> None:
    _, places = spots(size)
    reach = 3
    low, high = (places - reach).round(), (places + reach).round()
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) for side in size], indexing="ij"), -1)
    across = (-1, *[1] * len(size), len(size))
    labels = 5 * ((grid >= low.reshape(across)) & (grid <= high.reshape(across))).all(-1).to(torch.uint8)
    boxes = torch.cat((low - 0.5, high + 0.5, torch.full((len(low), 1, 1), 2.0)), 2)
    moved = {"mask": Moved("labels", labels), "box": Moved("boxes", boxes)}
    _, after = augmented(torch.ones(len(low), 1, *size), moved, name, default_rng(3))
    assert set(after["mask"].flatten().tolist()) == {0, 5}
    assert after["mask"].dtype == torch.uint8
    kept = 0
    for mask, (box,) in zip(after["mask"], after["box"], strict=True):
        if not box.isnan().any():
            where, kept = mask.nonzero(), kept + 1
            assert (where >= box[: len(size)] - 0.5).all()
            assert (where <= box[len(size) : -1] + 0.5).all()
            assert box[-1] == 2
    assert kept > 15


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name: Augmentation) -> None:
    images, places = spots((24, 24), 6, 3)
    original = images.clone()
    first, second, other = (
        augmented(images, {"place": Moved("points", places)}, name, default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first[0], second[0])
    assert first[1]["place"].numpy().tobytes() == second[1]["place"].numpy().tobytes()
    assert torch.equal(first[0], other[0]) == (name == "none")
    assert torch.equal(images, original)


def test_what_leaves_the_image_is_absent_and_what_is_cut_is_clipped() -> None:
    down = np.asarray([[[1.0, 0, 4], [0, 1, 0]]])  # by 4 of 8 rows
    nothing = math.nan
    points = moved_points(torch.tensor([[[1.0, 2], [3, 7], [4, 2], [nothing, nothing]]]), down, (8, 8))
    assert points[0, :2].tolist() == [[5, 2], [7, 7]]
    assert points[0, 2:].isnan().all()
    boxes = [
        [0.0, 1, 2, 3, 1],  # all of it stays
        [2, 0, 5.5, 3, 1],  # 1.5 of 3.5 rows stay, up to the border at 7.5
        [3, 0, 6, 3, 1],  # 0.5 of 3 rows: gone
        [nothing] * 5,
    ]
    moved = moved_boxes(torch.tensor([boxes]), down, (8, 8))
    assert moved[0, :2].tolist() == [[4, 1, 6, 3, 1], [6, 0, 7.5, 3, 1]]
    assert moved[0, 2:].isnan().all()


def test_maps_are_filled_where_nothing_was() -> None:
    down = np.asarray([[[1.0, 0, 4], [0, 1, 0]]])
    labels = torch.ones(1, 1, 8, 8, dtype=torch.int64)
    assert warped(labels, down, nearest=True)[0, 0, :, 3].tolist() == [0] * 4 + [1] * 4
    assert warped(labels, down, nearest=True, fill=9)[0, 0, :, 3].tolist() == [9] * 4 + [1] * 4
    far = warped(torch.full((1, 2, 8, 8), 0.5), down, fill=1.0)
    assert far[0, 1, :, 3].tolist() == pytest.approx([1] * 4 + [0.5] * 4)


def test_each_kind_of_map_is_sampled_in_its_own_way_and_filled() -> None:
    image = torch.zeros(1, 1, 2, 6)
    image[..., 3:] = 4
    moved = {"mask": Moved("labels", image[:, 0].long(), 9), "map": Moved("image", image, 1.0)}
    _, after = varied(image, moved, rules(zoom=(0.5, 0.5 + 1e-9)), default_rng(0))
    # Halved, columns 0 to 5 come from -2.5, -0.5, 1.5, 3.5, 5.5 and 7.5, and rows 0 and 1 from -0.5 and 1.5.
    assert set(after["mask"].flatten().tolist()) <= {0, 4, 9}
    assert after["map"][0, 0, 0].tolist() == pytest.approx([1, 0.75, 0.5, 2.5, 1.75, 1], abs=1e-4)


def test_a_turned_box_is_the_hull_of_its_corners() -> None:
    # 3 rows and 1 column around the centre of 9 x 9, turned by 45 degrees: both half sides become (1.5 + 0.5) / sqrt 2.
    half, turn = 2 / math.sqrt(2), math.sqrt(0.5)
    matrices = np.asarray([[[turn, -turn, 0], [turn, turn, 0]]])
    after = moved_boxes(torch.tensor([[[2.5, 3.5, 5.5, 4.5, 0]]]), matrices, (9, 9))
    assert after[0, 0].tolist() == pytest.approx([4 - half, 4 - half, 4 + half, 4 + half, 0])


def test_padding_stays_padding() -> None:
    images = torch.zeros(8, 3, 10, 10)
    images[:, :, 3:7] = torch.linspace(-1, 1, 8)[:, None, None, None] - 0.05
    after, _ = varied(
        images, {}, rules(blur=1.0, gamma=(0.5, 2.0), scale=0.2, shift=0.1, jitter=0.2, noise=0.1), default_rng(0)
    )
    assert (after[:, :, :3] == 0).all()
    assert (after[:, :, 3:7] != images[:, :, 3:7]).all()


def test_gamma_keeps_the_ends_of_the_range() -> None:
    images = torch.tensor([-1.0, 1.0, 3.0]).reshape(1, 1, 1, 3)
    after, _ = varied(images, {}, rules(gamma=(2.0, 2.0 + 1e-9)), default_rng(0))
    assert after.flatten().tolist() == pytest.approx([-1, -1 + 4 * 0.25, 3])


def test_blur_keeps_the_sum_and_widens_a_spot_by_its_variance() -> None:
    images = torch.full((40, 1, 21, 21), 1e-9)
    images[:, :, 10, 10] = 1
    after, _ = varied(images, {}, rules(blur=1.5), default_rng(1))
    assert torch.allclose(after.sum((1, 2, 3)), torch.ones(40), atol=1e-4)
    generator = default_rng(1)
    chosen, spread = generator.random(40) < SHARE_BLURRED, generator.uniform(0, 1.5, 40)
    variance = (after[:, 0].sum(2) * (torch.arange(21) - 10) ** 2).sum(1)
    wide = chosen & (spread > 0.6)  # a narrower bell is not sampled well by pixels
    assert wide.any()
    assert np.allclose(variance[wide], spread[wide] ** 2, rtol=0.03)
    assert np.allclose(variance[~chosen], 0, atol=1e-4)


def test_noise_is_a_share_of_the_range_and_colours_change_by_channel() -> None:
    images = torch.linspace(1, 5, 40 * 40).reshape(1, 1, 40, 40).expand(30, 1, 40, 40)
    after, _ = varied(images, {}, rules(noise=0.1), default_rng(0))
    generator = default_rng(0)
    chosen, spread = generator.random(30) < SHARE_NOISY, generator.uniform(0, 0.1, 30)
    assert np.allclose((after - images).std((1, 2, 3)), np.where(chosen, 4 * spread, 0), rtol=0.1)
    ones = torch.ones(2, 3, 4, 4)
    factors = default_rng(0).uniform(0.9, 1.1, 6).astype(np.float32).reshape(2, 3)
    after, _ = varied(ones, {}, rules(jitter=0.1), default_rng(0))
    assert torch.equal(after, torch.from_numpy(factors)[:, :, None, None].expand(2, 3, 4, 4))
    assert torch.equal(varied(ones[:, :1], {}, rules(jitter=0.1), default_rng(0))[0], ones[:, :1])
