"""Every recipe: its study reads, its generated files are what its manifest says, and its sites differ."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from polyward_client.site import read_site
from polyward_client.trainer.images import extent, read_image, read_mask
from polyward_deploy.generated import FIXED, MARKER, device_note, is_generated
from polyward_deploy.recipes.catalogue import FOLDER, Recipe, find, names
from polyward_deploy.recipes.steps import all_recipes, generated_study, recipe_table
from polyward_deploy.recipes.writing import columns_of, further_columns, write_recipe
from polyward_shared.problems import Problem
from polyward_shared.study import read_study
from polyward_shared.tasks import Binary, Centreline, Multiclass, Ordinal, Regression, Segmentation, Synthesis

NAMES = names()


@pytest.fixture(scope="module", params=NAMES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    recipe = find(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    write_recipe(recipe, folder)
    return recipe, folder


def rows_of(data: Path) -> list[dict[str, str]]:
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_named_after_its_study_and_says_what_it_is_not(name: str) -> None:
    recipe = find(name)
    assert recipe.study.id == name
    assert recipe.facts.stand_in
    readme = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    assert f"polyward-sim adapt recipe:{name}" in readme
    assert "never a claim about polyward" in " ".join(readme.split())


@pytest.mark.parametrize("name", NAMES)
def test_sites_have_tasks_of_the_study_and_differ(name: str) -> None:
    recipe = find(name)
    owned = [frozenset(site.tasks) for site in recipe.facts.sites]
    assert set().union(*owned) == set(recipe.study.tasks)
    assert len(recipe.study.tasks) == 1 or len(set(owned)) > 1
    assert len({site.scanner.note for site in recipe.facts.sites}) == len(owned)


def test_study_sites_and_marker_are_written(written: tuple[Recipe, Path]) -> None:
    recipe, folder = written
    assert read_study(folder / "study.toml") == recipe.study
    assert "GENERATED" in (folder / "study.toml").read_text(encoding="utf-8")
    for site in recipe.facts.sites:
        read = read_site(folder / "sites" / f"{site.name}.toml")
        assert read.file.tasks == site.tasks
        assert is_generated(read.root)
        assert device_note(read.root) == f"{site.scanner.note}."


def test_manifest_names_exactly_the_files_that_are_there(written: tuple[Recipe, Path]) -> None:
    recipe, folder = written
    study, dims = recipe.study, len(recipe.study.image.size)
    for site in recipe.facts.sites:
        data = folder / "data" / site.name
        rows = rows_of(data)
        assert len(rows) == site.images
        columns = {column for task in site.tasks for column in columns_of(task, study.tasks[task])}
        assert set(rows[0]) == {*FIXED, *columns, *further_columns(study, site.tasks)}
        named = {"manifest.csv", MARKER}
        for row in rows:
            named.add(row["path"])
            assert extent(data / row["path"], dims) == study.image.size
            for task in site.tasks:
                kind = study.tasks[task]
                if isinstance(kind, Segmentation | Centreline | Synthesis) and row.get(task):
                    named.add(row[task])
                    assert extent(data / row[task], dims) == study.image.size
        assert named == set(bytes_of(data))


def test_images_have_the_study_s_channels_and_masks_its_labels(written: tuple[Recipe, Path]) -> None:
    recipe, folder = written
    study, dims = recipe.study, len(recipe.study.image.size)
    for site in recipe.facts.sites:
        data = folder / "data" / site.name
        rows = rows_of(data)
        picture = read_image(data / rows[0]["path"], dims).values
        assert picture.shape == (study.image.channels, *study.image.size)
        assert (picture.std(axis=tuple(range(1, dims + 1))) > 5).all(), "no channel is empty"
        for task in site.tasks:
            kind = study.tasks[task]
            if isinstance(kind, Segmentation):
                masks = [read_mask(data / row[task], dims, classes=len(kind.classes)) for row in rows if row[task]]
                shown = site.partial.get(task, kind.classes)
                assert set(np.unique(np.stack(masks))) == {0, *(kind.classes.index(name) + 1 for name in shown)}


def test_every_split_of_a_site_is_labelled_for_every_task(written: tuple[Recipe, Path]) -> None:
    recipe, folder = written
    for site in recipe.facts.sites:
        rows = rows_of(folder / "data" / site.name)
        assert len({(r["patient_id"], r["split"]) for r in rows}) == len({r["patient_id"] for r in rows})
        for task in site.tasks:
            kind = recipe.study.tasks[task]
            for column in columns_of(task, kind):
                for split, least in (("train", 10), ("val", 5), ("test", 5)):
                    cells = [row[column] for row in rows if row["split"] == split and row[column]]
                    assert len(cells) >= least, (site.name, column, split)
                    if isinstance(kind, Binary):
                        assert set(cells) == {"0", "1"}, (site.name, column, split)
                    elif isinstance(kind, Multiclass | Ordinal):
                        assert set(cells) <= set(kind.classes)
                        assert len(set(cells)) > 1
                    elif isinstance(kind, Regression):
                        assert np.std([float(cell) for cell in cells]) > 0


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name: str, tmp_path: Path) -> None:
    recipe = find(name)
    least = 10 * len(recipe.facts.sites)
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_recipe(recipe, tmp_path / folder, images=least, seed=seed)
    first, second, other = (bytes_of(tmp_path / folder) for folder in "abc")
    assert first == second
    assert any(first[file] != other.get(file) for file in first if "/images/" in file)


def test_too_few_images_and_unknown_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="at least 10 for each of the 3 sites"):
        write_recipe(find("glaucoma_refuge"), tmp_path, images=29)
    with pytest.raises(Problem, match=r"expected one of .*glaucoma_refuge"):
        find("recipe:nothing")


def test_data_are_written_once_and_never_mixed(tmp_path: Path) -> None:
    study = generated_study("recipe:dental_age_sex", tmp_path, images=30)
    before = study.stat().st_mtime_ns
    assert generated_study("dental_age_sex", tmp_path, images=30) == study
    assert study.stat().st_mtime_ns == before
    with pytest.raises(Problem, match="--fresh"):
        generated_study("dental_age_sex", tmp_path, images=40)


def test_the_table_lists_every_recipe() -> None:
    table = recipe_table(all_recipes(None), width=80)
    assert list(table.columns[0].cells) == NAMES
    wide = recipe_table(all_recipes(["recipe:stroke_cascade"]), width=120)
    assert len(wide.columns) == len(table.columns) + 1
