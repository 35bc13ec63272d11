"""Grad-CAM of a network whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from polyward_client.trainer.gradcam import attended, speaking, write_overlay
from polyward_client.trainer.grid import Grid
from polyward_client.trainer.images import Picture
from polyward_client.trainer.model import MultiTaskModel
from polyward_client.trainer.tasks import kinds_of
from polyward_client.trainer.topology.flow import Outputs
from polyward_shared.study import Image as Form
from tests.support.images import make_study

KINDS = kinds_of(make_study(), ("bright", "shape", "grade"))


class TwoChannels(nn.Module):
    """A pyramid of one level, the image and its negative; the logit is 3 times the first's mean less the second's."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.kinds, self.bias = KINDS, bias

    def pyramid(self, x: Tensor) -> list[Tensor]:
        return [torch.cat((x, 1 - x), 1)]

    def answer(self, pyramid: list[Tensor], size: tuple[int, ...], wanted: tuple[str, ...], side: object) -> Outputs:
        means = pyramid[0].flatten(2).mean(2)
        return Outputs({wanted[0]: 3 * means[:, :1] - means[:, 1:] + self.bias})


@pytest.mark.parametrize("bias", [10.0, -10.0], ids=["class 1", "class 0"])
def test_the_map_is_the_weighted_sum_of_the_features_above_zero(bias: float) -> None:
    """8 x 8 places: alpha is 3/64 and -1/64, so the map is (3 a - (1 - a)) / 64 where that is above 0.

    Of class 0 the signs are turned: (1 - a - 3 a) / 64.
    """
    values = torch.full((1, 1, 8, 8), 0.25)  # 3 * 0.25 = 0.75: nothing speaks there, for either class
    values[..., 2, 5], values[..., 7, 7], values[..., 0, 0] = 1.0, 0.5, 0.0
    [(name, found)] = attended(TwoChannels(bias), "bright", values, None).items()  # type: ignore[arg-type]
    wanted = np.zeros((8, 8))
    if bias > 0:
        wanted[2, 5], wanted[7, 7] = 1, 1 / 3  # 3 and 1
    else:
        wanted[0, 0] = 1
    assert name == ("1" if bias > 0 else "0")
    assert found == pytest.approx(wanted, abs=1e-6)


def test_what_speaks_for_a_class() -> None:
    assert speaking(KINDS["bright"], torch.tensor([-2.0])) == {"0": torch.tensor(2.0)}
    assert speaking(KINDS["shape"], torch.tensor([0.0, 3.0, 1.0])) == {"bar": torch.tensor(3.0)}
    assert speaking(KINDS["grade"], torch.tensor([1.0, -3.0])) == {"above_1": torch.tensor(-2.0)}


def test_a_real_branch_is_explained_by_features_of_its_own_image() -> None:
    study = make_study(tasks=("bright",), encoder={"filters": 4, "blocks": [1, 1], "groups": 2})
    model = MultiTaskModel(study, ("bright",)).eval()
    values = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    [found] = attended(model, "bright", values, None).values()
    assert found.shape == (16, 16)
    assert found.min() >= 0
    assert found.max() in (0, pytest.approx(1))
    [other] = attended(model, "bright", values.flip(3), None).values()
    assert not np.allclose(found, other)


def test_the_overlay_shows_the_image_where_the_map_is_zero(tmp_path: Path) -> None:
    picture = Picture(np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8))
    attention = np.zeros((8, 8), np.float32)
    attention[0, 0] = 1
    path = write_overlay(tmp_path / "a", attention, picture, Form(size=(8, 8)), Grid((8, 8)), "a.png")
    with Image.open(path) as shown:
        assert shown.size == (256, 256), "a small image is enlarged"
        colours = np.asarray(shown)
    grey = colours[-1, -1]
    assert len(set(grey.tolist())) == 1
    assert grey[0] == 255
    assert len(set(colours[0, 0].tolist())) > 1
