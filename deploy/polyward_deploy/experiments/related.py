"""Sites, tasks and images for a benchmark of heterogeneous tasks: how related they are, and how sites differ, is set.

In the manner of FMTL-Bench (arXiv 2402.12876), whose settings IID-1 (every site has all tasks), NIID-2 (one task at a
site) and NIID-4 with NIID-6 (unbalanced and cross-domain) the three here follow, on GENERATED images for the real
trainer. A case is a shape with five independent features z_0 .. z_4 ~ N(0, 1): how lobed it is, how large, how long,
how bright, how striped. Task t reads `y_t = r z_0 + sqrt(1 - r^2) z_t`: with relatedness r = 1 all tasks read one
feature, with r = 0 each reads its own. What a scanner makes of it (gain, bias, blur, noise) is each site's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from polyward_deploy.generated import NOTICE, site_text, write_array, write_manifest, write_marker
from polyward_deploy.phantoms import Scanner, scan

Ward = Literal["every", "single", "unbalanced"]
WARDS: tuple[Ward, ...] = get_args(Ward)
DESCRIBED: dict[Ward, str] = {
    "every": "four sites, every site all four tasks, one kind of scanner",
    "single": "eight sites, one task at a site, one kind of scanner",
    "unbalanced": "four sites from 16 to 96 training images, two to four tasks at a site, four kinds of scanner",
}
TASKS = {  # in the order of the features that they read besides z_0
    "sign": 'kind = "binary"  # y > 0',
    "third": 'kind = "multiclass"  # y in thirds of its distribution\nclasses = ["lower", "middle", "upper"]',
    "amount": 'kind = "regression"  # y itself',
    "high": 'kind = "binary"  # y > 0.6',
}
THIRDS = (-0.43, 0.43)
HIGH = 0.6
SIDE = 32
TRAIN, VAL, TEST = 48, 10, 80  # images; the test split is as large at every site, so that its figures weigh the same
SAME = Scanner(note="the same at every site", noise=0.04)
DIFFERENT = (
    Scanner(note="sharp, little noise", noise=0.02),
    Scanner(note="soft and bright", blur=1.2, noise=0.03, gain=1.25, gamma=0.8),
    Scanner(note="noisy, uneven brightness", blur=0.5, noise=0.12, bias=0.6),
    Scanner(note="dark, half the lines", lines=0.5, noise=0.06, gain=0.65, gamma=1.25),
)


@dataclass(frozen=True, slots=True)
class Place:
    """One site."""

    name: str
    tasks: tuple[str, ...]
    train: int
    scanner: Scanner


def places(ward: Ward) -> tuple[Place, ...]:
    """The sites of a setting."""
    every = tuple(TASKS)
    match ward:
        case "every":
            return tuple(Place(f"site-{number}", every, TRAIN, SAME) for number in range(1, 5))
        case "single":
            return tuple(Place(f"site-{number + 1}", (every[number % 4],), TRAIN, SAME) for number in range(8))
        case "unbalanced":
            owned = (every, ("sign", "amount", "high"), ("third", "amount"), ("sign", "third"))
            shares = zip(owned, (16, 32, 64, 96), DIFFERENT, strict=True)
            return tuple(Place(f"site-{number}", *share) for number, share in enumerate(shares, start=1))


def write_ward(folder: Path, ward: Ward, relatedness: float, *, rounds: int, seed: int = 0) -> Path:
    """The path of the `study.toml` in `folder`, with sites and images beside it; the same bytes for the same seed."""
    if not 0 <= relatedness <= 1:
        raise ValueError(f"found relatedness = {relatedness}; expected 0 to 1")
    (folder / "sites").mkdir(parents=True, exist_ok=True)
    for number, place in enumerate(places(ward)):
        generator = np.random.default_rng((seed, WARDS.index(ward), number))
        _write_site(folder / "data" / place.name, place, relatedness, generator)
        site = folder / "sites" / f"{place.name}.toml"
        site.write_text(site_text(place.name, place.tasks, place.scanner.note), encoding="utf-8")
    study = folder / "study.toml"
    study.write_text(_study_text(f"related-{ward}", rounds, len(places(ward))), encoding="utf-8")
    return study


def scores(features: NDArray[np.float64], relatedness: float) -> NDArray[np.float64]:
    """What the tasks read: [cases, tasks] of standard normal values, from features [cases, 1 + tasks]."""
    return np.asarray(relatedness * features[:, :1] + np.sqrt(1 - relatedness**2) * features[:, 1:])


def labels(values: Sequence[float]) -> dict[str, str]:
    """Of one case's scores, one for each task, as manifests write them."""
    sign, third, amount, high = values
    return {
        "sign": str(int(sign > 0)),
        "third": ("lower", "middle", "upper")[int(np.searchsorted(THIRDS, third))],
        "amount": f"{amount:.3f}",
        "high": str(int(high > HIGH)),
    }


def shape(features: Sequence[float], generator: np.random.Generator) -> NDArray[np.float32]:
    """One case before any scanner, [32, 32] of 0 to 1; where it lies and how it is turned tells nothing."""
    lobed, large, long, bright, striped = np.clip(features, -2, 2)
    line = (np.arange(SIDE) + 0.5) * (2 / SIDE) - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    y, x = y - generator.uniform(-0.12, 0.12), x - generator.uniform(-0.12, 0.12)
    angle = generator.uniform(0, np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    aspect = np.exp(0.16 * (long + 2))  # 1 to 1.9
    along, across = along / np.sqrt(aspect), across * np.sqrt(aspect)
    direction = np.arctan2(across, along)
    rim = (0.42 + 0.07 * large) * (1 + 0.09 * (lobed + 2) * np.cos(5 * direction + generator.uniform(0, 2 * np.pi)))
    inside = np.clip((rim - np.hypot(along, across)) * SIDE / 2 + 0.5, 0, 1)
    stripes = np.cos((10 + 3 * striped) * along + generator.uniform(0, 2 * np.pi))
    return np.asarray(0.15 + inside * (0.4 + 0.1 * bright + 0.12 * stripes), np.float32)


def _write_site(folder: Path, place: Place, relatedness: float, generator: np.random.Generator) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_marker(folder, place.scanner.note)
    splits = ["train"] * place.train + ["val"] * VAL + ["test"] * TEST
    features = generator.standard_normal((len(splits), 1 + len(TASKS)))
    rows = []
    for number, (split, case, read) in enumerate(zip(splits, features, scores(features, relatedness), strict=True), 1):
        name = f"images/generated-{number:04d}.png"
        write_array(folder / name, scan(shape(case, generator), place.scanner, generator), width_mm=320.0)
        told = labels(read)
        patient = f"generated-{number:04d}"
        rows.append({"path": name, "patient_id": patient, "split": split} | {task: told[task] for task in place.tasks})
    write_manifest(folder, place.tasks, rows)


def _study_text(name: str, rounds: int, sites: int) -> str:
    tasks = "\n\n".join(f"[tasks.{task}]\n{text}" for task, text in TASKS.items())
    return f"""\
# {NOTICE}
# Tasks whose relatedness is set by the generator; see sites/.

id = {json.dumps(name)}
rounds = {rounds}

[image]
channels = 1
size = [{SIDE}, {SIDE}]

[encoder]
filters = 8
blocks = [1, 1, 1]

[branches]
hidden = 32

[training]
epochs = 2
final_epochs = 2
batch = 8
learning_rate = 2e-3
branch_learning_rate = 4e-3
augmentation = "light"

[participation]
quorum = {sites}

[evaluation]
splits = ["test"]
every = {rounds}

{tasks}
"""
