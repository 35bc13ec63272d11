"""A recipe -> a folder with its study, its sites and GENERATED data. Same seed, same bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomli_w
from numpy.typing import NDArray

from polyward_deploy.generated import NOTICE, site_text, suffix_for, write_array, write_manifest, write_marker
from polyward_deploy.recipes.catalogue import Recipe, RecipeSite
from polyward_deploy.recipes.drawing import scanned
from polyward_deploy.recipes.patients import Label, Patient, View
from polyward_shared.problems import Problem
from polyward_shared.study import Study
from polyward_shared.tasks import Multilabel, Segmentation, Survival, Synthesis, Task

# Dealt in turn along the order of illness: small sites still have enough cases to measure on.
SPLITS = ("train", "test", "train", "val", "train", "train", "val", "train", "test", "train")
LEAST = len(SPLITS)  # images of a site
WIDTH_MM = 200.0  # of a volume's first axis


@dataclass(frozen=True, slots=True)
class _Placed:
    """One image of a site, on its way to the disk."""

    name: str
    patient: str
    split: str
    view: View
    generator: np.random.Generator


def write_recipe(recipe: Recipe, folder: Path, *, images: int | None = None, seed: int = 0) -> Path:
    """The path of the `study.toml` in `folder`, with sites and data beside it; `images` counts those of all sites.

    Raises `Problem` when `images` is too small for that many sites.
    """
    sites = recipe.facts.sites
    if images is not None and images < LEAST * len(sites):
        raise Problem(
            "--images",
            f"found {images}",
            expected=f"at least {LEAST} for each of the {len(sites)} sites of {recipe.name}",
            remedy="give a higher number",
        )
    scale = 1.0 if images is None else images / sum(site.images for site in sites)
    (folder / "sites").mkdir(parents=True, exist_ok=True)
    for site in sites:
        count = max(LEAST, round(site.images * scale))
        _write_site(folder / "data" / site.name, recipe, site, count, seed)
        text = site_text(site.name, site.tasks, site.scanner.note, further=_own_choices(site))
        (folder / "sites" / f"{site.name}.toml").write_text(text, encoding="utf-8")
    study = folder / "study.toml"
    written = (recipe.folder / "study.toml").read_text(encoding="utf-8")
    study.write_text(f"# {NOTICE}\n# Stand-in: {recipe.facts.stand_in}\n\n{written}", encoding="utf-8")
    return study


def _own_choices(site: RecipeSite) -> str:
    """What a site's file says beyond data and device."""
    text = "\n[policy]\nminimum_count = 1  # generated images stand for no patients; real sites keep the default\n"
    if site.partial:
        text += "\n" + tomli_w.dumps({"data": {"partial": {task: list(known) for task, known in site.partial.items()}}})
    if site.topology is not None:
        text += "\n" + tomli_w.dumps({"topology": site.topology.model_dump(mode="json", exclude_defaults=True)})
    return text


def columns_of(name: str, task: Task) -> tuple[str, ...]:
    """The manifest's columns that hold a task's label."""
    column = task.column or name
    match task:
        case Survival():
            return column, task.event or f"{column}_event"
        case Multilabel():
            return task.columns or task.classes
        case Synthesis(target="input"):
            return ()
    return (column,)


def further_columns(study: Study, tasks: Iterable[str]) -> tuple[str, ...]:
    """The columns of groups and side inputs that these tasks need."""
    chosen = [study.tasks[name] for name in tasks]
    side = [study.side[name].column or name for task in chosen for name in task.side]
    groups = [group for task in chosen if (group := getattr(task, "group", None))]
    return tuple(name for name in dict.fromkeys([*side, *groups]) if name != "patient_id")


def _write_site(folder: Path, recipe: Recipe, site: RecipeSite, count: int, seed: int) -> None:
    study = recipe.study
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_marker(folder, site.scanner.note)
    placed = list(_placed(recipe, site, count, seed))
    kept = {task: _kept(placed, site, task, seed) for task in site.tasks}
    further = further_columns(study, site.tasks)
    rows = []
    for number, each in enumerate(placed):
        path = f"images/{each.name}{suffix_for(study.image.channels, len(study.image.size))}"
        stored = scanned(each.view.image, site.scanner, each.generator)
        write_array(folder / path, stored[0] if len(stored) == 1 else stored, width_mm=WIDTH_MM)
        row = {"path": path, "patient_id": each.patient, "split": each.split}
        row |= {column: each.view.columns.get(column, "") for column in further}
        for task in site.tasks:
            present = kept[task][number] and task in each.view.labels
            row |= _cells(folder, each, task, study.tasks[task], site.partial.get(task, ())) if present else {}
        rows.append(row)
    columns = [column for task in site.tasks for column in columns_of(task, study.tasks[task])]
    write_manifest(folder, list(dict.fromkeys([*further, *columns])), rows)


def _placed(recipe: Recipe, site: RecipeSite, count: int, seed: int) -> Iterable[_Placed]:
    """The site's images, `count` in all, with every patient in one split."""
    site_seed = (seed, zlib.crc32(site.name.encode()))
    drawn: list[tuple[Patient, np.random.Generator]] = []
    total = 0
    while total < count:
        generator = np.random.default_rng((*site_seed, len(drawn) + 1))
        patient = recipe.draw(generator, recipe.study.image.size, **site.patients)
        drawn.append((patient, generator))
        total += len(patient.views)
    order = sorted(range(len(drawn)), key=lambda i: drawn[i][0].illness)
    split = {i: SPLITS[place % len(SPLITS)] for place, i in enumerate(order)}
    for i, (patient, generator) in enumerate(drawn):
        name = f"generated-{i + 1:04d}"
        views = patient.views if i + 1 < len(drawn) else patient.views[: len(patient.views) - (total - count)]
        for number, view in enumerate(views, start=1):
            yield _Placed(f"{name}-{number}", name, split[i], view, generator)


def _kept(placed: list[_Placed], site: RecipeSite, task: str, seed: int) -> NDArray[np.bool_]:
    """Which images keep their label: the same share in every split, so that none is left without."""
    generator = np.random.default_rng((seed, zlib.crc32(f"{site.name}/{task}".encode())))
    kept = np.ones(len(placed), bool)
    for split in ("train", "val", "test"):
        here = np.flatnonzero([each.split == split and task in each.view.labels for each in placed])
        kept[generator.permutation(here)[: int(site.missing * len(here))]] = False
    return kept


def _cells(folder: Path, each: _Placed, name: str, task: Task, shown: Sequence[str]) -> dict[str, str]:
    """The cells of one label; a mask, with the shown classes or with all, or another image is written to a file."""
    label: Label = each.view.labels[name]
    if shown and isinstance(task, Segmentation) and isinstance(label, np.ndarray):
        label = np.where(np.isin(label, [task.classes.index(one) + 1 for one in shown]), label, 0)
    if isinstance(label, Mapping):
        return dict(label)
    columns = columns_of(name, task)
    if isinstance(label, str):
        return {columns[0]: label}
    dimensions = each.view.image.ndim - 1
    channels = 1 if label.ndim == dimensions else len(label)
    path = f"labels/{name}/{each.name}{suffix_for(channels, dimensions)}"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    brightness = np.asarray(label, np.float32)
    stored = np.asarray(label if label.dtype == np.uint8 else np.round(brightness.clip(0, 1) * 255), np.uint8)
    write_array(
        folder / path, stored.reshape(stored.shape[-dimensions:]) if channels == 1 else stored, width_mm=WIDTH_MM
    )
    return {columns[0]: path}
