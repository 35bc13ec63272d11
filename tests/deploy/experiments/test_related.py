"""Generated wards: relatedness as it is asked for, owners, and studies that the real trainer can read."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from polyward_client.site import read_site
from polyward_deploy.experiments.related import (
    DIFFERENT,
    SIDE,
    TASKS,
    TEST,
    WARDS,
    labels,
    places,
    scores,
    shape,
    write_ward,
)
from polyward_deploy.generated import is_generated
from polyward_shared.study import read_study


@pytest.mark.parametrize(("relatedness", "alike"), [(0.0, 0.0), (0.6, 0.36), (1.0, 1.0)])
def test_two_tasks_correlate_by_the_square_of_relatedness(relatedness: float, alike: float) -> None:
    found = scores(np.random.default_rng(0).standard_normal((20_000, 5)), relatedness)
    correlations = np.asarray(np.corrcoef(found.T))[np.triu_indices(4, 1)]
    np.testing.assert_allclose(correlations, alike, atol=0.03)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=0.03)


def test_labels_follow_from_the_scores() -> None:
    assert labels([0.1, -0.5, 1.25, 0.5]) == {"sign": "1", "third": "lower", "amount": "1.250", "high": "0"}
    assert labels([-0.1, 0.5, 0.0, 0.7]) == {"sign": "0", "third": "upper", "amount": "0.000", "high": "1"}


def test_every_feature_changes_the_image() -> None:
    plain = shape([0.0] * 5, np.random.default_rng(0))
    assert plain.shape == (SIDE, SIDE)
    for feature in range(5):
        case = [0.0] * 5
        case[feature] = 2.0
        assert np.abs(shape(case, np.random.default_rng(0)) - plain).max() > 0.05


def test_who_owns_what() -> None:
    every, single, unbalanced = (places(ward) for ward in WARDS)
    assert {place.tasks for place in every} == {tuple(TASKS)}
    assert [len(place.tasks) for place in single] == [1] * 8
    assert all(sum(task in place.tasks for place in single) == 2 for task in TASKS)
    assert {place.scanner for place in unbalanced} == set(DIFFERENT)
    assert len({place.train for place in unbalanced}) == 4


def test_a_ward_can_be_read_and_is_the_same_again(tmp_path: Path) -> None:
    path = write_ward(tmp_path / "a", "unbalanced", 0.5, rounds=2)
    study = read_study(path)
    assert (study.rounds, tuple(study.tasks)) == (2, tuple(TASKS))
    for place in places("unbalanced"):
        site = read_site(path.parent / "sites" / f"{place.name}.toml")
        assert site.file.tasks == place.tasks
        assert is_generated(site.root)
        with site.manifest.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        splits = [row["split"] for row in rows]
        assert (splits.count("train"), splits.count("test")) == (place.train, TEST)
        assert all(row[task] for row in rows for task in place.tasks)
        assert (site.root / rows[0]["path"]).is_file()
    write_ward(tmp_path / "b", "unbalanced", 0.5, rounds=2)
    for first in (tmp_path / "a").rglob("*.*"):
        assert first.read_bytes() == (tmp_path / "b" / first.relative_to(tmp_path / "a")).read_bytes()


def test_a_relatedness_beyond_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found relatedness = 1\.5"):
        write_ward(tmp_path, "every", 1.5, rounds=1)


@pytest.mark.slow
@pytest.mark.whole
def test_the_benchmark_trains_compares_and_leaves_a_page(tmp_path: Path) -> None:
    from rich.console import Console

    from polyward_deploy.experiments import related_bench

    quiet = Console(quiet=True)
    outcome = related_bench.bench(
        tmp_path, (0,), workers=2, talk=quiet, wards=("single",), relatedness=(1.0,), rounds=1
    )
    methods = {figure.method for figure in outcome.figures}
    assert methods == set(related_bench.METHODS) - {"local"}
    assert len(outcome.sheets[0].lines) == 1
    assert list((tmp_path / "single-1" / "results").glob("*.html"))
