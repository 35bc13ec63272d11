"""Where images are kept makes no difference to what is learnt, and old files are never believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polyward_client.approvals import write_approval
from polyward_client.port.interface import Done, Work
from polyward_client.site import Site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.dataset import Batch, Dataset, load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.trainer import LocalTrainer
from polyward_shared.states import read_state
from polyward_shared.study import Study
from tests.support.images import TASKS, make_study, write_site

CPU = torch.device("cpu")
PLACES = np.array([7, 0, 3])


def load(site: Site, study: Study, folder: Path | None = None) -> Dataset:
    return load_dataset(read_manifest(site, study, site.file.tasks), study, folder=folder)


def same(one: Batch, two: Batch) -> bool:
    return (
        torch.equal(one.images, two.images)
        and one.targets.keys() == two.targets.keys()
        and all(
            one.targets[task].dtype == two.targets[task].dtype and torch.equal(one.targets[task], two.targets[task])
            for task in one.targets
        )
        and one.counts == two.counts
    )


def test_memory_and_disk_give_the_same_batches(tmp_path: Path) -> None:
    site, study = write_site(tmp_path, unlabelled={"mask": [0], "shape": [7]}), make_study()
    memory, disk = load(site, study), load(site, study, tmp_path / "cache")
    assert same(memory.batch(PLACES, CPU), disk.batch(PLACES, CPU))
    files = {path.name for path in (tmp_path / "cache").iterdir()}
    assert files == {"images.npy", *(f"target.{task}.npy" for task in TASKS)}
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_task_may_be_called_images(tmp_path: Path) -> None:
    data = make_study().model_dump(mode="json")
    study = Study.model_validate({**data, "tasks": {"images": {"kind": "binary", "column": "bright"}}})
    site = write_site(tmp_path, tasks=("images",))
    assert same(load(site, study).batch(PLACES, CPU), load(site, study, tmp_path / "cache").batch(PLACES, CPU))


def test_an_image_that_changed_is_read_again(tmp_path: Path) -> None:
    site, study = write_site(tmp_path), make_study()
    before = load(site, study, tmp_path / "cache").batch(PLACES, CPU).images.clone()
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(site.root / "7.png")
    after = load(site, study, tmp_path / "cache").batch(PLACES, CPU).images
    assert bool((after[0] == 1).all())
    assert torch.equal(before[1:], after[1:])


@pytest.mark.parametrize("change", [{"size": [8, 8]}, {"intensity": "zscore"}, {"channels": 3}], ids=str)
def test_another_form_of_the_images_is_not_taken_from_old_files(tmp_path: Path, change: dict[str, Any]) -> None:
    site, one, other = write_site(tmp_path), make_study(), make_study(image=change)
    load(site, one, tmp_path / "cache")
    assert same(load(site, other, tmp_path / "cache").batch(PLACES, CPU), load(site, other).batch(PLACES, CPU))


def test_a_round_from_disk_gives_the_same_bytes(tmp_path: Path) -> None:
    study = make_study(tasks=("bright", "mask"), training={"augmentation": "light"})

    def trained(cache: str) -> tuple[Site, Done]:
        toml = f'[device]\nkind = "cpu"\ncache = "{cache}"\n'
        site = write_site(tmp_path / cache, tasks=("bright", "mask"), toml=toml)
        write_approval(site.approved, make_approval(study, site))
        trainer = LocalTrainer(site)
        approval, first = make_approval(study, site), trainer.describe(study.digest()).first
        digest = approval.schema.state_digest(approval.schema.pack(read_state(Path(first))))
        work = Work(study=study.digest(), round=1, state=first, state_digest=digest)
        return site, trainer.train(work, lambda progress: None)

    (memory, one), (disk, two) = trained("memory"), trained("disk")
    left, right = (read_state(Path(str(done.update))) for done in (one, two))
    assert all(left[name].tobytes() == right[name].tobytes() for name in left)
    assert not (memory.cache).exists()
    assert (disk.cache / study.digest()[:16] / "images.npy").exists()
