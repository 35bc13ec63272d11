"""One study in several topologies and with several seeds: what is to be trained, and where.

`single` trains every task alone, in a federation of its owners: an encoder for that task and no other. The rest are
the presets of `polyward_shared.topologies`; edges that the study itself names are kept where the preset has such. A
seed changes initialisation and order; the splits stand in the manifests and stay.

Every run keeps its ledger in a folder of its own. A finished one is read back, an interrupted one goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tomli_w

from polyward_client.site import Site, SiteFile, read_site
from polyward_server.ledger import Ledger
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.study import Study
from polyward_shared.topologies import Topology

Arrangement = Literal["single", "parallel", "cascaded", "interacted", "hybrid"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
SITES = "sites"  # below the folder of a comparison: the sites' files as the runs see them
MARK = "comparison.digest"


@dataclass(frozen=True, slots=True)
class Run:
    """One study to be trained: `single` has one for each task, the other topologies one in all."""

    arrangement: Arrangement
    seed: int
    study: Study
    sites: tuple[Path, ...]
    folder: Path

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


def arrangements_of(text: str) -> tuple[Arrangement, ...]:
    """The topologies that a list with commas names, in their usual order. Raises `Problem`."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in ARRANGEMENTS]:
        raise Problem("--topologies", f"found {unknown[0]!r}", expected=f"some of {', '.join(ARRANGEMENTS)}")
    if not wanted:
        raise Problem("--topologies", "names nothing", expected=f"some of {', '.join(ARRANGEMENTS)}")
    return tuple(name for name in ARRANGEMENTS if name in wanted)


def seeds_of(text: str) -> tuple[int, ...]:
    """The seeds that a list with commas names, as given. Raises `Problem`."""
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted or not all(part.isdecimal() and int(part) < 2**32 for part in wanted):
        raise Problem("--seeds", f"found {text!r}", expected="whole numbers from 0 with commas, such as 0,1,2")
    return tuple(dict.fromkeys(map(int, wanted)))


def arranged(study: Study, arrangement: Arrangement, seed: int) -> Study:
    """The study in one of the presets, with this seed. Raises `Problem` where the study's rules exclude it."""
    kind = "parallel" if arrangement == "single" else arrangement
    own = study.topology
    topology = Topology(
        kind=kind,
        unit=own.unit,
        cascade=own.cascade if kind in {"cascaded", "hybrid"} else (),
        interact=own.interact if kind in {"interacted", "hybrid"} else (),
    )
    text = study.model_dump(mode="json") | {"seed": seed, "topology": topology.model_dump(mode="json")}
    return validated(text, Study, where=f"the study {study.id} as {arrangement}")


def alone(study: Study, task: str, owners: int) -> Study:
    """The study with this task and nothing else; no more sites are needed for a round than own it."""
    rule = study.participation
    participation = rule.model_copy(
        update={
            "quorum": min(rule.quorum, owners),
            "task_quorum": {name: min(least, owners) for name, least in rule.task_quorum.items() if name == task},
        }
    )
    side = {name: study.side[name] for name in study.tasks[task].side}
    return study.model_copy(
        update={
            "tasks": {task: study.tasks[task]},
            "side": side,
            "topology": Topology(),
            "participation": participation,
        }
    )


def planned(
    study: Study, files: Sequence[Path], arrangements: Iterable[Arrangement], seeds: Iterable[int], folder: Path
) -> list[Run]:
    """Every run, seed by seed, so that what an interruption leaves can be compared. Writes the sites' files for them.

    A site's own topology is left out of its file: it would replace the one that is compared. Raises `Problem`.
    """
    sites = [read_site(path) for path in files]
    arrangements = list(arrangements)
    whole = tuple(_written(site, site.file.tasks, folder / SITES) for site in sites)
    owned = {task: [site for site in sites if task in site.file.tasks] for task in study.tasks}
    by_task = {
        task: tuple(_written(site, (task,), folder / SITES / task) for site in owners)
        for task, owners in owned.items()
        if owners and "single" in arrangements
    }
    runs = []
    for seed in seeds:
        for arrangement in arrangements:
            varied, place = arranged(study, arrangement, seed), folder / arrangement / f"seed-{seed}"
            if arrangement == "single":
                runs += [
                    Run(arrangement, seed, alone(varied, task, len(paths)), paths, place / task)
                    for task, paths in by_task.items()
                ]
            else:
                runs.append(Run(arrangement, seed, varied, whole, place))
    return runs


def _written(site: Site, tasks: Sequence[str], folder: Path) -> Path:
    """The site's file with these of its tasks, without a topology of its own, data at the same place."""
    data = site.file.data
    narrowed = SiteFile(
        name=site.name,
        tasks=tuple(tasks),
        data=data.model_copy(
            update={
                "root": str(site.root.resolve()),
                "columns": {task: column for task, column in data.columns.items() if task in tasks},
                "partial": {task: known for task, known in data.partial.items() if task in tasks},
            }
        ),
        device=site.file.device,
        policy=site.file.policy,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{site.name}.toml"
    path.write_text(tomli_w.dumps(narrowed.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    return path


def same_comparison(study: Study, sites: Iterable[Site], folder: Path) -> None:
    """A folder belongs to one study and one set of sites, whatever the seeds: results of two would be mixed."""
    said = [study.model_copy(update={"seed": 0}).canonical(), *(site.file.model_dump_json() for site in sites)]
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


def titled(run: Run) -> str:
    """A run as people name it."""
    task = f" ({next(iter(run.study.tasks))})" if run.arrangement == "single" else ""
    return f"{run.arrangement}{task}, seed {run.seed}"
