"""The study's form keeps the picture's aspect and a mask's labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from polyward_client.trainer.form import shaped, shaped_mask, shaped_points, unshaped, unshaped_points
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


def test_back_from_the_study_s_form_padding_is_cut_off() -> None:
    stored = picture([[1, 2, 3, 4]])  # 1 x 4 in 4 x 4: one row above, two below
    form = np.zeros((1, 4, 4), np.float32)
    form[0, 1] = [5, 6, 7, 8]
    found = unshaped(form, stored, Image(size=(4, 4)), where="")
    assert found.tolist() == [[[5, 6, 7, 8]]]


def test_back_from_the_study_s_form_nothing_happens_to_the_right_size() -> None:
    form = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    assert np.array_equal(unshaped(form, picture(np.ones((2, 2))), Image(size=(2, 2)), where=""), form)


def test_back_from_the_study_s_form_every_pixel_is_as_large_as_it_was_stored() -> None:
    """Rows are 1 mm and columns 3 mm apart; at 1 mm a side of two columns becomes six."""
    stored = picture(np.ones((4, 2)), (1.0, 3.0))
    image = Image(size=(8, 8), spacing=(1.0, 1.0))
    form = np.zeros((1, 8, 8), np.float32)
    form[0, 2:6, 1:4] = 1  # the first column's three millimetres
    form[0, :, 0] = form[0, :, 7] = form[0, :2] = form[0, 6:] = 99  # padding
    found = unshaped(form, stored, image, where="")
    assert found.shape == (1, 4, 2)
    assert found[0].tolist() == [[1, 0]] * 4  # the centre of each column is the middle one of its three


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_a_map_comes_back_on_the_grid_of_its_image(rows: int, columns: int, spaced: bool) -> None:
    stored = picture(np.ones((rows, columns)), (1.0, 2.5))
    image = Image(size=(16, 24), spacing=(1.5, 1.5) if spaced else None)
    form = shaped_mask(np.ones((rows, columns), np.uint8), stored, image, where="").astype(np.float32)
    found = unshaped(form[None], stored, image, where="")
    assert found.shape == (1, rows, columns)
    assert np.allclose(found, 1), "the whole image was marked, and no padding came back with it"


@given(st.integers(1, 40), st.integers(1, 40), st.floats(-0.5, 39.5), st.floats(-0.5, 39.5))
def test_points_come_back_where_they_were(rows: int, columns: int, y: float, x: float) -> None:
    stored, image = picture(np.ones((rows, columns))), Image(size=(16, 24))
    points = np.asarray([[y, x], [np.nan, np.nan]])
    there = shaped_points(points, stored, image, where="")
    assert np.allclose(unshaped_points(there, stored, image, where=""), points, atol=1e-9, equal_nan=True)
