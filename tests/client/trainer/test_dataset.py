"""Tensors hold what the files say, and batches are drawn from their seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polyward_client.trainer.dataset import Dataset, endless_batches, epoch_batches, load_dataset, varied
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.tasks import kinds_of
from polyward_shared.problems import Problem
from tests.support.images import TASKS, make_study, picture, read_rows, write_manifest, write_site

CPU = torch.device("cpu")
KINDS = kinds_of(make_study(), tuple(TASKS))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    site, study = write_site(tmp_path, unlabelled={"mask": [1], "bright": [0, 1, 2]}), make_study()
    return load_dataset(read_manifest(site, study, site.file.tasks), study)


def test_images_and_masks_are_those_of_the_files(data: Dataset) -> None:
    (values, mask), _ = picture(7)
    batch = data.batch(np.array([7]), CPU)
    assert torch.allclose(batch.images[0, 0], torch.from_numpy(values.astype(np.float32) / 255))
    assert torch.equal(batch.targets["mask"][0], torch.from_numpy(mask // 255))


def test_a_batch_marks_what_is_labelled_and_has_no_entry_for_a_task_without_labels(data: Dataset) -> None:
    batch = data.batch(np.array([0, 1, 2]), CPU)
    assert "bright" not in batch.targets
    assert batch.labelled["mask"].tolist() == [1, 0, 1]
    assert batch.counts == {"shape": 3, "grade": 3, "area": 3, "mask": 2}


def test_splits_are_the_manifests(data: Dataset) -> None:
    assert data.cases("val").tolist() == [3, 8, 13, 18]
    assert data.cases("train", "bright").tolist() == [5, 6, 7, 10, 11, 12, 15, 16, 17]


def test_every_place_is_drawn_once_and_no_batch_is_a_single_image() -> None:
    batches = list(epoch_batches(np.arange(9), 4, np.random.default_rng(0)))
    assert [len(batch) for batch in batches] == [4, 5]
    assert sorted(np.concatenate(batches).tolist()) == list(range(9))


def test_batches_depend_on_the_seed_alone() -> None:
    def order(seed: int) -> list[int]:
        return [int(p) for batch in epoch_batches(np.arange(20), 4, np.random.default_rng(seed)) for p in batch]

    assert order(1) == order(1) != order(2)


def test_mirrored_images_take_their_masks_along(data: Dataset) -> None:
    places = np.arange(2, 12)
    batch = data.batch(places, CPU)
    changed = varied(batch, KINDS, "light", np.random.default_rng(0))
    mirror = np.random.default_rng(0).random(len(places)) < 0.5
    assert 0 < mirror.sum() < len(places)
    for place, flipped in enumerate(mirror):
        mask = batch.targets["mask"][place]
        assert torch.equal(changed.targets["mask"][place], mask.flip(-1) if flipped else mask)
        image = changed.images[place].flip(-1) if flipped else changed.images[place]
        assert np.corrcoef(image.flatten(), batch.images[place].flatten())[0, 1] > 0.99


def test_training_targets_are_those_of_labelled_training_cases(data: Dataset) -> None:
    areas = [float(picture(number)[1]["area"]) for number in range(20) if number % 5 < 3]
    assert data.training_targets("area").tolist() == pytest.approx(areas)


def test_volumes(tmp_path: Path) -> None:
    site, study = (
        write_site(tmp_path, tasks=["bright"]),
        make_study(tasks=["bright"], image={"size": [4, 8, 8], "intensity": "minmax"}),
    )
    for number in range(20):
        np.savez(site.root / f"{number}.npz", image=np.full((4, 4, 4), number) + np.arange(4))
    site.manifest.write_text(site.manifest.read_text().replace(".png,p", ".npz,p"))
    data = load_dataset(read_manifest(site, study, ("bright",)), study)
    assert data.images.shape == (20, 1, 4, 8, 8)
    assert data.images[:, :, :, 2:6, 2:6].amax() == 1
    assert not data.images[:, :, :, :2].any()


def test_what_does_not_fit_into_memory_is_said_before_reading(tmp_path: Path) -> None:
    site, study = write_site(tmp_path), make_study()
    manifest = read_manifest(site, study, site.file.tasks)
    with pytest.raises(Problem, match=r"need 0\.00 GiB of memory"):
        load_dataset(manifest, study, budget=1000)


def test_an_image_that_breaks_off_is_named_with_its_row(tmp_path: Path) -> None:
    site, study = write_site(tmp_path), make_study()
    manifest = read_manifest(site, study, site.file.tasks)
    whole = (site.root / "3.png").read_bytes()
    (site.root / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Problem, match=r"row 5, 3\.png: cannot be read"):
        load_dataset(manifest, study)


def test_a_case_without_a_label_has_a_blank_target(tmp_path: Path) -> None:
    """Not that of another case, whose split may be another."""
    site, study = write_site(tmp_path, tasks=["area", "mask"]), make_study(tasks=["area", "mask"])
    rows = read_rows(site)
    rows[2]["area"] = rows[3]["mask"] = ""
    write_manifest(site.manifest, rows)
    batch = load_dataset(read_manifest(site, study, ("area", "mask")), study).batch(np.arange(6), CPU)
    assert batch.labelled["area"].tolist() == [1, 1, 0, 1, 1, 1]
    assert (batch.targets["area"] > 0).tolist() == [True, True, False, True, True, True]
    assert batch.targets["mask"].flatten(1).any(1).tolist() == [True, True, True, False, True, True]


def test_batches_without_end_show_every_image_before_any_again() -> None:
    batches = endless_batches(np.arange(9), 4, np.random.default_rng(0))
    passes = [np.concatenate([next(batches), next(batches)]).tolist() for _ in range(3)]  # the rest joins the second
    assert all(sorted(each) == list(range(9)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3, "every pass has an order of its own"
    assert list(endless_batches(np.arange(0), 4, np.random.default_rng(0))) == []


def test_batches_without_end_keep_groups_whole() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2, 2, -1, -1])
    batches = endless_batches(np.arange(9), 4, np.random.default_rng(0), groups)
    seen = [next(batches) for _ in range(12)]
    for number, size in ((0, 3), (1, 2), (2, 2)):
        assert {int((groups[batch] == number).sum()) for batch in seen} == {0, size}
