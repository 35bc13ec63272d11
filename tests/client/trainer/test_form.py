"""The study's form keeps the picture's aspect and a mask's labels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from polyward_client.trainer.form import shaped, shaped_mask
from polyward_client.trainer.images import Picture
from polyward_shared.problems import Problem
from polyward_shared.study import Image


def picture(values: ArrayLike, spacing: tuple[float, ...] | None = None) -> Picture:
    return Picture(np.asarray(values, np.float32)[None], spacing)


def test_the_right_size_is_not_resampled() -> None:
    found = shaped(picture([[0, 5], [10, 2]]), Image(size=(2, 2)), where="")
    assert np.allclose(found[0], [[0, 0.5], [1, 0.2]])


def test_aspect_is_kept_and_the_rest_is_zero() -> None:
    found = shaped(picture(np.arange(1, 33).reshape(4, 8)), Image(size=(8, 8)), where="")
    assert found.shape == (1, 8, 8)
    assert not found[0, :2].any()
    assert not found[0, 6:].any()
    assert found[0, 2:6, 1:].all()


def test_shrinking_keeps_the_mean() -> None:
    values = np.random.default_rng(0).random((64, 64))
    found = shaped(picture(values), Image(size=(8, 8), intensity=(0.0, 1.0)), where="")
    assert abs(found.mean() - values.mean()) < 0.02


def test_intensity_forms() -> None:
    scored = shaped(picture([[1, 3]]), Image(size=(2, 2), intensity="zscore"), where="")
    assert scored[0].tolist() == [[-1, 1], [0, 0]]  # the second row is padding
    clipped = shaped(picture([[-200, 0], [100, 900]]), Image(size=(2, 2), intensity=(-100.0, 100.0)), where="")
    assert np.allclose(clipped[0], np.array([[0, 0.5], [1, 1]]))
    assert not shaped(picture([[7, 7], [7, 7]]), Image(size=(2, 2)), where="").any()


def test_channels_are_matched() -> None:
    colour = Picture(np.ones((3, 2, 2), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None])
    assert np.allclose(shaped(colour, Image(size=(2, 2), intensity=(0.0, 1.0)), where=""), 1)
    assert shaped(picture([[0, 1]]), Image(channels=3, size=(2, 2)), where="").shape == (3, 2, 2)
    with pytest.raises(Problem, match="has 3 channels; expected 2"):
        shaped(colour, Image(channels=2, size=(2, 2)), where="x.png")


def test_spacing_resamples_and_never_enlarges_beyond_it() -> None:
    volume = Picture(np.ones((1, 4, 4, 2), np.float32), (1.0, 1.0, 4.0))
    form = Image(size=(8, 8, 8), spacing=(1.0, 1.0, 1.0), intensity=(0.0, 1.0))
    found = shaped(volume, form, where="")
    assert found[0].sum() == 4 * 4 * 8
    with pytest.raises(Problem, match="does not say its spacing"):
        shaped(Picture(volume.values), form, where="")


def test_a_mask_follows_its_picture_with_its_own_labels() -> None:
    values = np.zeros((6, 12), np.uint8)
    values[:3] = 3
    form = Image(size=(4, 4))
    found = shaped_mask(values, picture(values.astype(float)), form, where="")
    assert set(np.unique(found)) == {0, 3}
    assert found[1].tolist() == [3, 3, 3, 3]
    assert not found[2:].any()
