"""Small images with labels that can be learnt, and the files of a site that owns them. Generated, never evidence."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyward_client.site import Site, read_site
from polyward_shared.study import Study

TASKS: dict[str, dict[str, Any]] = {
    "bright": {"kind": "binary"},
    "shape": {"kind": "multiclass", "classes": ["disc", "bar", "cross"]},
    "grade": {"kind": "ordinal", "classes": ["1", "2", "3"]},
    "area": {"kind": "regression"},
    "mask": {"kind": "segmentation", "classes": ["lesion"]},
}
SPLITS = ("train", "train", "train", "val", "test")
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "parallel": {"kind": "parallel"},
    "cascaded": {"kind": "cascaded"},
    "cross_stitch": {"kind": "interacted"},
    "nddr": {"kind": "interacted", "unit": "nddr"},
    "attention": {"kind": "interacted", "unit": "attention"},
    "distillation": {"kind": "interacted", "unit": "distillation"},
    "hybrid": {"kind": "hybrid"},
}


def make_study(*, tasks: Sequence[str] = tuple(TASKS), **changes: Any) -> Study:
    """A tiny study over generated images; `changes` replace or refine its sections."""
    text: dict[str, Any] = {
        "id": "toy",
        "seed": 3,
        "rounds": 2,
        "image": {"size": [16, 16], "intensity": [0.0, 255.0]},
        "encoder": {"filters": 4, "blocks": [1, 1], "groups": 2},
        "tasks": {name: TASKS[name] for name in tasks},
        "training": {
            "schedule": "fedrep",
            "batch": 4,
            "learning_rate": 0.01,
            "branch_learning_rate": 0.01,
            "final_epochs": 1,
            "augmentation": "none",
        },
    }
    for key, value in changes.items():
        text[key] = {**text[key], **value} if isinstance(value, Mapping) and key in text else value
    return Study.model_validate(text)


def picture(number: int, size: int = 16) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], dict[str, str]]:
    """An image [size, size] of 8 bits, its mask's values and labels, all from its number."""
    generator = np.random.default_rng(number)
    rows, columns = np.mgrid[:size, :size] - size // 2
    shape, reach, bright = number % 3, 2 + number % 3, number % 2
    inside = {
        0: rows**2 + columns**2 <= reach**2,
        1: abs(rows) <= reach // 2,
        2: (abs(rows) < 2) | (abs(columns) < 2),
    }[shape]
    noise = generator.integers(0, 30, (size, size))
    values = (inside * (120 + 100 * bright) + noise).astype(np.uint8)
    labels = {
        "bright": str(bright),
        "shape": ("disc", "bar", "cross")[shape],
        "grade": str(reach - 1),
        "area": f"{inside.mean():.4f}",
    }
    return np.stack((values, inside.astype(np.uint8) * 255)), labels


def write_site(
    folder: Path,
    *,
    name: str = "north",
    tasks: Sequence[str] = tuple(TASKS),
    images: int = 20,
    unlabelled: Mapping[str, Sequence[int]] | None = None,
    toml: str = "",
) -> Site:
    """A site's images, manifest and `site.toml` in `folder`. `unlabelled` empties cells: {task: image numbers}."""
    root = folder / f"{name}.images"
    root.mkdir(parents=True)
    rows = []
    for number in range(images):
        (values, mask), labels = picture(number)
        Image.fromarray(values).save(root / f"{number}.png")
        Image.fromarray(mask).save(root / f"{number}.mask.png")
        labels["mask"] = f"{number}.mask.png"
        for task, numbers in (unlabelled or {}).items():
            if number in numbers:
                labels[task] = ""
        fixed = {"path": f"{number}.png", "patient_id": f"p{number}", "split": SPLITS[number % len(SPLITS)]}
        rows.append({**fixed, **labels})
    write_manifest(root / "manifest.csv", rows)
    names = ", ".join(f'"{task}"' for task in tasks)
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\ntasks = [{names}]\n{toml}\n[data]\nroot = "{root}"\n')
    return read_site(path)


def write_manifest(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(site: Site) -> list[dict[str, str]]:
    """The manifest as a test may change it."""
    with site.manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
