"""The recipes that are installed, and what each says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, cast

from pydantic import Field

from polyward_deploy.phantoms import Scanner
from polyward_deploy.recipes.adapting import Rows
from polyward_deploy.recipes.patients import Draw
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, read_toml
from polyward_shared.study import Name, Study, read_study
from polyward_shared.tasks import TaskName
from polyward_shared.topologies import Topology

FOLDER = Path(__file__).parent
PREFIX = "recipe:"

Area = Literal["brain", "eye", "chest", "cardiac", "abdomen", "musculoskeletal", "pathology", "other"]


class Source(Frozen):
    """A real data set for this recipe."""

    name: str
    url: str = ""
    doi: str = ""
    licence: str
    access: str  # open, by registration, on request, not public


class Published(Frozen):
    """What others report for their system on their data."""

    metric: str
    value: str
    source: str


class RecipeSite(Frozen):
    """A simulated hospital of the recipe."""

    name: Name
    tasks: tuple[TaskName, ...] = Field(min_length=1)
    images: int = Field(ge=10)
    missing: float = Field(default=0.0, ge=0, lt=1)  # share of the labels of each task that nobody wrote down
    patients: dict[str, float] = Field(default_factory=dict)  # given to the recipe's `draw` by name
    scanner: Scanner
    partial: dict[TaskName, tuple[str, ...]] = Field(
        default_factory=dict
    )  # the classes that its masks show, if not all
    topology: Topology | None = None  # the site's own, in place of the study's


class Facts(Frozen):
    """`recipe.toml`."""

    title: str
    area: Area
    system: str = ""  # the cited system; empty where the recipe follows none
    stand_in: str  # what is a stand-in for, or reconstructed from, that system
    data: tuple[Source, ...] = ()
    published: tuple[Published, ...] = ()
    sites: tuple[RecipeSite, ...] = Field(min_length=2)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe with its study and its two programs."""

    name: str
    folder: Path
    study: Study
    facts: Facts
    draw: Draw
    rows: Rows
    before: Study | None = None  # whose last encoder this study starts with, inflated if it is of slices


def names() -> list[str]:
    """The recipes' names, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob("*/recipe.toml"))


def find(name: str) -> Recipe:
    """The recipe of that name, with or without `recipe:` before it. Raises `Problem`."""
    name = name.removeprefix(PREFIX)
    if name not in names():
        raise Problem(
            f"{PREFIX}{name}",
            "there is no such recipe",
            expected=f"one of {', '.join(names())}",
            remedy="see `polyward-sim recipes`",
        )
    folder = FOLDER / name
    package = f"{__package__}.{name}"
    return Recipe(
        name=name,
        folder=folder,
        study=read_study(folder / "study.toml"),
        facts=read_toml(folder / "recipe.toml", Facts),
        draw=cast(Draw, import_module(f"{package}.generator").draw),
        rows=cast(Rows, import_module(f"{package}.adapter").rows),
        before=read_study(before) if (before := folder / "before.toml").is_file() else None,
    )
