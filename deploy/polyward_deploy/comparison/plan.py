"""Variations of one study, with several seeds: what is to be trained, and where.

A seed changes initialisation and order; the splits stand in the manifests and stay. Every run keeps its ledger in a
folder of its own. A finished one is read back, an interrupted one goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from polyward_client.site import Site, SiteFile
from polyward_server.ledger import Ledger
from polyward_shared.messages import Kept
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen
from polyward_shared.study import Study

SITES = "sites"  # below the folder of a comparison: the sites' files as the runs see them
MARK = "comparison.digest"


class Subject(Frozen):
    """What is compared, in words, and the variation that the others are measured against."""

    one: str
    many: str
    reference: str
    file: str  # names of the page and of the JSON file, without their endings


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One federation of a variation. `label` tells it from the others; `tasks` are all that its sites have if None."""

    study: Study
    sites: tuple[Site, ...]
    tasks: tuple[str, ...] | None = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """One way to train a study: in one federation, or in several that have nothing to do with each other.

    `model` is the one whose figures count; `shown` are the tasks for which they mean something, all if None.
    """

    name: str
    described: str
    parts: tuple[Part, ...]
    model: Kept = "federated"
    shown: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One study to be trained with one seed."""

    variation: str
    label: str
    seed: int
    study: Study
    sites: tuple[Path, ...]
    folder: Path

    @property
    def title(self) -> str:
        """As people name it."""
        return f"{self.variation}{f' ({self.label})' if self.label else ''}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether its ledger says that nothing is left to be done."""
        if not (self.folder / "ledger.db").is_file():
            return False
        ledger = Ledger(self.folder / "ledger.db")
        try:
            return self.study.digest() in ledger.studies_in("finished")
        finally:
            ledger.close()


def seeds_of(text: str) -> tuple[int, ...]:
    """The seeds that a list with commas names, as given. Raises `Problem`."""
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted or not all(part.isdecimal() and int(part) < 2**32 for part in wanted):
        raise Problem("--seeds", f"found {text!r}", expected="whole numbers from 0 with commas, such as 0,1,2")
    return tuple(dict.fromkeys(map(int, wanted)))


def planned(variations: Iterable[Variation], seeds: Iterable[int], folder: Path) -> list[Run]:
    """Every run, seed by seed, so that what an interruption leaves can be compared. Writes the sites' files for them.

    A site's own topology is left out of its file: all variations are asked to train the same model everywhere.
    """
    placed = [
        (variation, part, tuple(_written(site, part.tasks, folder / SITES) for site in part.sites))
        for variation in variations
        for part in variation.parts
    ]
    return [
        Run(
            variation=variation.name,
            label=part.label,
            seed=seed,
            study=part.study.model_copy(update={"seed": seed}),
            sites=paths,
            folder=folder / variation.name / f"seed-{seed}" / part.label,
        )
        for seed in seeds
        for variation, part, paths in placed
    ]


def _written(site: Site, tasks: tuple[str, ...] | None, folder: Path) -> Path:
    """The site's file with these of its tasks, without a topology of its own, data at the same place.

    One thread, as runs go on side by side.
    """
    data, kept = site.file.data, tasks or site.file.tasks
    narrowed = SiteFile(
        name=site.name,
        tasks=kept,
        data=data.model_copy(
            update={
                "root": str(site.root.resolve()),
                "columns": {task: column for task, column in data.columns.items() if task in kept},
                "partial": {task: known for task, known in data.partial.items() if task in kept},
            }
        ),
        device=site.file.device.model_copy(update={"threads": 1}),
        policy=site.file.policy,
    )
    folder = folder / "-".join(tasks) if tasks else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{site.name}.toml"
    path.write_text(tomli_w.dumps(narrowed.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    return path


def same_comparison(study: Study, sites: Sequence[Site], folder: Path) -> None:
    """A folder belongs to one study, one set of sites and their manifests, whatever the seeds: results of two would be
    mixed. Raises `Problem`."""
    said = [study.model_copy(update={"seed": 0}).canonical(), *(site.file.model_dump_json() for site in sites)]
    manifests = [site.manifest for site in sites if site.manifest.is_file()]
    said += [hashlib.sha256(path.read_bytes()).hexdigest() for path in manifests]
    digest = hashlib.sha256("\n".join(said).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if mark.exists() and mark.read_text(encoding="utf-8").strip() != digest:
        raise Problem(
            str(folder),
            "holds a comparison of another study or other sites, or of these before they were edited",
            remedy="give another --out, or remove the folder",
        )
    mark.write_text(digest + "\n", encoding="utf-8")
