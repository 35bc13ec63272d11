"""Digits of the pack and digits drawn by a program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyward_deploy.experiments.digits import CLASSES, INPUTS, PACK, SITES, VARIABLE, digest, pack_path, read_pack
from polyward_deploy.experiments.glyphs import draw, drawn_sites
from polyward_shared.problems import Problem


def test_without_the_variable_the_problem_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(Problem, match=r"POLYWARD_PACKS: is not set.*\n.*--generated"):
        pack_path()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(Problem, match="there is no such file"):
        pack_path()


def test_the_pack_is_read_scaled_and_in_each_sites_own_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Image k of a site is full of the value k, so that it tells where it was."""
    values = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None], (30, 28, 28))
    labels = np.arange(30, dtype=np.uint8) % 10
    arrays = {
        f"{split}_{site}_{kind}": array
        for split in ("train", "test")
        for site in range(SITES)
        for kind, array in (("x", values), ("y", labels))
    }
    path = tmp_path / PACK
    path.parent.mkdir()
    np.savez(path, **arrays)  # type: ignore[arg-type]
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    sites = read_pack(pack_path(), 8)
    for number, site in enumerate(sites):
        order = np.random.default_rng(7 + number).permutation(30)[:8]
        assert list(site.train_y) == [k % 10 for k in order]
        np.testing.assert_allclose(site.train_x[:, 0], order / 127.5 - 1, rtol=1e-6)
        assert site.train_x.shape == (8, INPUTS)
        assert len(site.test_y) == 30
    fewer = read_pack(pack_path(), 4)
    assert all((a.train_x[:4] == b.train_x).all() for a, b in zip(sites, fewer, strict=True))


def test_a_file_of_another_kind_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "mnist20.npz"
    path.write_bytes(b"no pack")
    with pytest.raises(Problem, match="cannot be read"):
        read_pack(path, 8)


def test_drawn_digits_are_the_same_again_and_few_classes_stand_at_a_site() -> None:
    sites = drawn_sites(20)
    assert len(sites) == SITES
    assert digest(sites) == digest(drawn_sites(20)) != digest(sites[:-1])
    assert np.median([len(np.unique(site.train_y)) for site in sites]) <= 6
    assert all(site.train_x.min() >= -1 and site.train_x.max() <= 1 for site in sites)
    assert {len(site.train_y) for site in sites} == {20}


def test_a_drawn_digit_is_nearest_to_the_mean_of_its_own_class() -> None:
    """Most of them: otherwise the classes would be names and nothing else."""
    generator = np.random.default_rng(0)
    means = np.stack([draw(generator, np.full(80, digit)).mean(axis=0) for digit in range(CLASSES)])
    classes = np.tile(np.arange(CLASSES), 20)
    images = draw(generator, classes)
    nearest = ((images[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == classes).mean() > 0.5
