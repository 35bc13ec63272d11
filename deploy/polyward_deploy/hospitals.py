"""A folder with everything that a simulated federation needs: hospitals of generated patients, sites and a study.

The hospitals differ as real ones do: in size, devices, which tasks they have, how many labels are missing and how ill
their patients are. Same seed, same bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polyward_deploy.generated import NOTICE, site_text, suffix_for, write_array, write_manifest, write_marker
from polyward_deploy.phantoms import (
    GRADES,
    STRUCTURES,
    TYPES,
    VIEW_CM,
    Anatomy,
    Scanner,
    another_view,
    draw_anatomy,
    findings,
    render,
)

SPLITS = ("train", "train", "test", "train", "val", "train", "train", "test", "train", "train")  # dealt in turn
LEAST = 10  # images of a hospital: one round of `SPLITS`
SECOND_VIEW = 0.3  # share of the patients with two images
MASK = "structures"

TASKS = {
    "lesion_suspicious": 'kind = "binary"  # 1: irregular margin and high contrast; 0 otherwise, or no lesion',
    "grade": f'kind = "ordinal"  # from size and margin\nclasses = {json.dumps(GRADES)}',
    "organ_size": 'kind = "regression"  # cm2 in 2D, ml in 3D',
    "structures": f'kind = "segmentation"\nclasses = {json.dumps(STRUCTURES)}  # mask values 1 and 2',
    "lesion_type": f'kind = "multiclass"  # empty where there is no lesion\nclasses = {json.dumps(TYPES)}',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hospital:
    """What makes one hospital different from the next."""

    name: str
    size: float  # images, as a multiple of the mean over hospitals
    tasks: tuple[str, ...]
    missing: float  # share of the labels that nobody wrote down
    prevalence: float
    severity: float
    scanner: Scanner


HOSPITALS = (
    Hospital(
        name="riverside",
        size=1.8,
        tasks=("lesion_suspicious", "structures"),
        missing=0.1,
        prevalence=0.6,
        severity=0.5,
        scanner=Scanner(note="new device: sharp, little noise", noise=0.02),
    ),
    Hospital(
        name="harbour",
        size=1.1,
        tasks=("lesion_suspicious", "grade", "organ_size"),
        missing=0.2,
        prevalence=0.7,
        severity=0.6,
        scanner=Scanner(note="soft reconstruction, bright", blur=0.8, noise=0.02, gain=1.05, gamma=0.85),
    ),
    Hospital(
        name="hillside",
        size=0.9,
        tasks=("grade", "structures"),
        missing=0.25,
        prevalence=0.55,
        severity=0.4,
        scanner=Scanner(note="old device: noisy, uneven brightness", blur=0.4, noise=0.06, bias=0.4),
    ),
    Hospital(
        name="meadow",
        size=0.7,
        tasks=("lesion_suspicious", "organ_size", "lesion_type"),
        missing=0.2,
        prevalence=0.7,
        severity=0.5,
        scanner=Scanner(note="half the lines, dark", lines=0.5, noise=0.03, gain=0.85, gamma=1.15),
    ),
    Hospital(
        name="chapel",
        size=0.5,
        tasks=("structures", "lesion_type"),
        missing=0.2,
        prevalence=0.8,
        severity=0.6,
        scanner=Scanner(note="small portable device", blur=0.6, lines=0.7, noise=0.045, bias=0.25, gamma=1.1),
    ),
)


def write_hospitals(
    folder: Path, *, hospitals: int = 5, images: int = 750, size: int = 64, seed: int = 0, dimensions: int = 2
) -> Path:
    """The path of the `study.toml` in `folder`, with sites and data beside it; `images` counts those of all."""
    if hospitals < 2 or dimensions not in (2, 3) or images < LEAST or size < 16 or size % 8:
        raise ValueError(
            f"found hospitals = {hospitals}, dimensions = {dimensions}, images = {images}, size = {size}; expected at "
            "least 2 hospitals, 2 or 3 dimensions, at least 10 images, and a size from 16 that is a multiple of 8"
        )
    chosen = [_hospital(number) for number in range(hospitals)]
    scale = images / sum(hospital.size for hospital in chosen)
    for hospital in chosen:
        count = max(LEAST, round(hospital.size * scale))
        write_hospital(folder, hospital, count, size=size, seed=seed, dimensions=dimensions)
    study = folder / "study.toml"
    study.write_text(_study_text(chosen, size=size, seed=seed, dimensions=dimensions), encoding="utf-8")
    return study


def write_hospital(folder: Path, hospital: Hospital, count: int, *, size: int, seed: int, dimensions: int = 2) -> Path:
    """One hospital's `count` images and manifest in `data/`, and its file in `sites/`, whose path is returned."""
    write_data(folder / "data" / hospital.name, hospital, count, size=size, seed=seed, dimensions=dimensions)
    site = folder / "sites" / f"{hospital.name}.toml"
    site.parent.mkdir(parents=True, exist_ok=True)
    site.write_text(site_text(hospital.name, hospital.tasks, hospital.scanner.note), encoding="utf-8")
    return site


def _hospital(number: int) -> Hospital:
    turn, place = divmod(number, len(HOSPITALS))
    pattern = HOSPITALS[place]
    return pattern if turn == 0 else replace(pattern, name=f"{pattern.name}{turn + 1}")


def write_data(folder: Path, hospital: Hospital, count: int, *, size: int, seed: int, dimensions: int = 2) -> None:
    """A hospital's `count` images with their masks, the manifest and the marker, in `folder`."""
    for name in ("images", "masks") if MASK in hospital.tasks else ("images",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_marker(folder, hospital.scanner.note)
    hospital_seed = (seed, zlib.crc32(hospital.name.encode()))
    suffix, width = suffix_for(1, dimensions), VIEW_CM * 10
    rows = []
    for patient, (anatomy, split, views) in enumerate(_patients(hospital, count, hospital_seed, dimensions), start=1):
        generator = np.random.default_rng((*hospital_seed, patient))
        for view in range(1, views + 1):
            shown = anatomy if view == 1 else another_view(anatomy, generator)
            image, mask, organ_size = render(shown, hospital.scanner, size, generator=generator)
            name = f"generated-{patient:04d}-{view}{suffix}"
            labels = findings(anatomy, organ_size, generator)
            write_array(folder / "images" / name, image, width_mm=width)
            row = {"path": f"images/{name}", "patient_id": f"generated-{patient:04d}", "split": split}
            for task in hospital.tasks:
                kept = generator.random() >= hospital.missing
                if task == MASK:
                    row[task] = f"masks/{name}" if kept else ""
                    if kept:
                        write_array(folder / "masks" / name, mask, width_mm=width)
                else:
                    row[task] = labels[task] if kept else ""
            rows.append(row)
    write_manifest(folder, hospital.tasks, rows)


def _patients(
    hospital: Hospital, count: int, hospital_seed: tuple[int, int], dimensions: int
) -> Iterable[tuple[Anatomy, str, int]]:
    """Patients with split and number of images, `count` images in all.

    Splits are dealt along the order of illness, so that a small hospital's test split is not without cases by chance.
    """
    generator = np.random.default_rng(hospital_seed)
    anatomies: list[Anatomy] = []
    views: list[int] = []
    while sum(views) < count:
        anatomies.append(
            draw_anatomy(generator, dimensions, prevalence=hospital.prevalence, severity=hospital.severity)
        )
        views.append(min(1 + int(generator.random() < SECOND_VIEW), count - sum(views)))
    order = sorted(range(len(anatomies)), key=lambda i: _illness(anatomies[i]))
    split = {i: SPLITS[place % len(SPLITS)] for place, i in enumerate(order)}
    return [(anatomies[i], split[i], views[i]) for i in range(len(anatomies))]


def _illness(anatomy: Anatomy) -> float:
    lesion = anatomy.lesion
    return -1.0 if lesion is None else lesion.irregularity + 0.5 * lesion.contrast


def _study_text(hospitals: list[Hospital], *, size: int, seed: int, dimensions: int) -> str:
    owners = {task: [hospital.name for hospital in hospitals if task in hospital.tasks] for task in TASKS}
    tasks = "\n\n".join(
        f"[tasks.{task}]  # at {', '.join(owners[task])}\n{text}" for task, text in TASKS.items() if owners[task]
    )
    return f"""\
# {NOTICE}
# The study: what these hospitals train together. Edit it; everything that is not written here has a default.

id = "generated-hospitals"
seed = {seed}  # of the first encoder, the branches and the order of the batches
rounds = 5

[image]
channels = 1
size = {json.dumps([size] * dimensions)}
intensity = "minmax"

[encoder]  # the only part that crosses between hospitals
filters = 8
blocks = [1, 1, 1, 1]

[training]  # of each hospital in each round
schedule = "fedper"  # encoder and branches together; "fedrep": first the branches, then the encoder
epochs = 2
final_epochs = 2  # of the branches, after the last round
batch = 8
learning_rate = 1e-3
branch_learning_rate = 2e-3
augmentation = "light"  # flips, small changes of intensity

[balancer]
kind = "equal"  # how the losses of a hospital's tasks are added up

[aggregation]
weighting = "samples"  # a hospital counts as much as it has labelled training images

[participation]
quorum = 2  # a round needs the answers of so many hospitals

# Each hospital owns some of the tasks; see sites/.

{tasks}
"""
