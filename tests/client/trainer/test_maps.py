"""A map in the study's form becomes a mask where the image itself shows what is there."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image

from polyward_client.trainer.form import shaped
from polyward_client.trainer.images import Picture, read_image
from polyward_client.trainer.maps import map_cells
from polyward_client.trainer.tasks import kind_of
from polyward_shared.study import Study
from tests.support.images import make_study

AFFINE = np.asarray([[0, 0, -2.0, 40], [-1.0, 0, 0, 30], [0, 3.0, 0, -20], [0, 0, 0, 1]])
SPACED = {"size": [24, 24, 24], "intensity": [0.0, 1.0], "spacing": [1.0, 1.0, 2.0]}


def places(**tasks: object) -> Study:
    return Study.model_validate({**make_study().model_dump(mode="json"), "tasks": tasks, "topology": {}})


def logits_of(picture: Picture, study: Study) -> torch.Tensor:
    """What a perfect branch would say: the image is 1 where the lesion is."""
    values = torch.from_numpy(shaped(picture, study.image, where="a"))
    return torch.cat((0.5 - values, values - 0.5)) * 20


@pytest.mark.parametrize("image", [{"size": [16, 16, 16], "intensity": [0.0, 1.0]}, SPACED], ids=["fitted", "spaced"])
def test_a_lesion_comes_back_where_it_was_stored(tmp_path: Path, image: dict[str, object]) -> None:
    study = make_study(tasks=("mask",), image=image)
    stored = np.zeros((12, 6, 10), np.float32)
    stored[2:7, 1:4, 5:9] = 1
    path = tmp_path / "a.nii.gz"
    nibabel.save(Nifti1Image(stored, AFFINE), path)  # type: ignore[no-untyped-call]
    picture = read_image(path, 3)
    kind = kind_of(study, "mask")
    cells = map_cells(
        kind, logits_of(picture, study), picture, study.image, path=path, stem=tmp_path / "m" / "a", home=tmp_path
    )
    written = nibabel.load(tmp_path / cells["mask"])
    assert isinstance(written, Nifti1Image)
    assert np.array_equal(written.affine, AFFINE)
    found = np.asarray(written.dataobj)
    assert found.shape == stored.shape
    wrong = (found != stored).sum()
    assert wrong <= 0.1 * stored.sum(), "only voxels at the border may be called otherwise"
    assert int(cells["mask.voxels.lesion"]) == found.sum()
    assert float(cells["mask.ml.lesion"]) == pytest.approx(found.sum() * 6 / 1000, rel=1e-3)  # 1 x 2 x 3 mm


def test_places_come_back_in_the_words_and_pixels_of_a_manifest(tmp_path: Path) -> None:
    """The stored image is 32 x 64: half as large in a form of 32 x 32, with 8 rows of padding above."""
    study = places(
        tip={"kind": "landmark", "points": ["tip"]}, nodule={"kind": "detection", "classes": ["a", "b"], "most": 4}
    ).model_copy(update={"image": make_study(image={"size": [32, 32]}).image})
    picture = Picture(np.zeros((1, 32, 64), np.float32))
    output = torch.zeros(1, 32, 32)
    output[0, 12, 20] = 1.0
    given = map_cells(
        kind_of(study, "tip"), output, picture, study.image, path=tmp_path, stem=tmp_path / "x", home=tmp_path
    )
    assert given == {
        "tip": "40.5 8.5",
        "tip.height.tip": "1.0000",
    }  # x first; (20 + 0.5) * 2 - 0.5, (4 + 0.5) * 2 - 0.5
    boxes = torch.full((4, 32, 32), -20.0)
    boxes[1, 12, 20] = 20.0  # class b
    boxes[2:, 12, 20] = torch.tensor([4.0, 6.0]).log()  # rows, columns
    given = map_cells(
        kind_of(study, "nodule"), boxes, picture, study.image, path=tmp_path, stem=tmp_path / "x", home=tmp_path
    )
    assert given["nodule"] == "35.0 5.0 47.0 13.0 b"
    assert float(given["nodule.scores"]) == pytest.approx(1)
    none = map_cells(
        kind_of(study, "nodule"), boxes - 40, picture, study.image, path=tmp_path, stem=tmp_path / "x", home=tmp_path
    )
    assert none == {"nodule": "none", "nodule.scores": ""}
