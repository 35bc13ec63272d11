"""What the command line does with recipes: list them, write one with its data, adapt a real data set to one."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from polyward_deploy.recipes.adapting import write_site
from polyward_deploy.recipes.catalogue import PREFIX, Recipe, find, names
from polyward_deploy.recipes.writing import columns_of, write_recipe
from polyward_shared.problems import Problem

FOLDER = "generated"  # below the folder of the results
WIDE = 110  # columns of a terminal
NOTE = "recipe.txt"  # what the data in it were made from; written last


def all_recipes(wanted: Sequence[str] | None) -> list[Recipe]:
    """The recipes of these names, or every one. Raises `Problem`."""
    return [find(name) for name in wanted or names()]


def recipe_table(recipes: Sequence[Recipe], *, width: int) -> Table:
    """One line for each recipe; with the system that it follows where the terminal has room for that."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("recipe", "area", "tasks", "topology", "form"):
        table.add_column(heading, no_wrap=True)
    wide = width >= WIDE
    if wide:
        table.add_column("follows", overflow="fold")
    for recipe in recipes:
        study = recipe.study
        kinds = Counter(task.kind for task in study.tasks.values())
        tasks = "\n".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.items())
        form = f"{len(study.image.size)}D {study.encoder.kind}"
        follows = [(recipe.facts.system or "-").partition(" (")[0]] if wide else []
        table.add_row(recipe.name, recipe.facts.area, tasks, study.topology.kind, form, *follows)
    return table


def generated_study(name: str, folder: Path, *, images: int | None) -> Path:
    """The `study.toml` of a recipe with its generated data below `folder`, written unless they are there.

    Raises `Problem` when others are there, for results of two would be mixed.
    """
    recipe = find(name)
    target = folder / FOLDER
    wanted = f"{recipe.name}, {images or 'all'} images\n"
    if (target / NOTE).is_file():
        if (target / NOTE).read_text(encoding="utf-8") != wanted:
            raise Problem(
                str(target), "holds data of another recipe or number of images", remedy="give --fresh or another --out"
            )
        return target / "study.toml"
    if (target / "data").exists():
        shutil.rmtree(target / "data")  # an interrupted writing
    study = write_recipe(recipe, target, images=images)
    (target / NOTE).write_text(wanted, encoding="utf-8")
    return study


def adapted_sites(name: str, root: Path, folder: Path) -> list[Path]:
    """Writes manifest, images and site files of a real data set below `folder`; the site files. Raises `Problem`."""
    recipe = find(name)
    if not root.is_dir():
        raise Problem(str(root), "is not a folder", remedy="give the folder that holds the data set")
    tasks = {task: columns_of(task, kind) for task, kind in recipe.study.tasks.items()}
    files = write_site(recipe.rows(root), folder, name=recipe.name.replace("_", "-"), tasks=tasks)
    (folder / "study.toml").write_text((recipe.folder / "study.toml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "README.md").write_text(_hint(recipe.name), encoding="utf-8")
    return files


def _hint(name: str) -> str:
    recipe = find(name)
    sources = "\n".join(
        f"- {source.name}; licence: {source.licence}; access: {source.access} {source.url or source.doi}".rstrip()
        for source in recipe.facts.data
    )
    return f"""\
# {recipe.facts.title}

Adapted for the recipe {PREFIX}{recipe.name}. Licence and access are stated from memory or from the set's own page:
check them before use.

{sources}

Before training: look at `manifest.csv` (splits by patient, empty cells for missing labels), then give `study.toml` the
size of your images and your number of rounds. A study needs several sites: repeat this at each hospital.
"""
