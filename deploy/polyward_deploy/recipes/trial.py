"""A recipe tried: two rounds of it, and whether what polyward promises can be seen in what they left."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from polyward_client.port.interface import Work
from polyward_client.site import read_site
from polyward_client.trainer.journal import Epoch, read_epochs
from polyward_client.trainer.trainer import LocalTrainer
from polyward_deploy.recipes.catalogue import Recipe
from polyward_deploy.recipes.writing import write_recipe
from polyward_deploy.simulate import open_site, run_arm
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution
from polyward_shared.problems import Problem
from polyward_shared.schema import ENCODER, group_of
from polyward_shared.states import read_state
from polyward_shared.study import Study
from polyward_shared.training import Personal

ROUNDS = 2
TOLERANCE = {"float32": 1e-4, "bfloat16": 2**-7}  # of the largest change of an array: what the codec rounds away
TINY = 1e-7  # the last bit of a value near 1


@dataclass(frozen=True, slots=True)
class Trial:
    """What two rounds of one recipe showed."""

    recipe: str
    tasks: Mapping[str, Sequence[str]]  # by site
    losses: Mapping[tuple[str, str], tuple[float, float]]  # by site and task: of the first epoch, of the last
    encoders: Sequence[str]  # the hub's digests, from round 0
    faults: Sequence[str]
    seconds: float


def shortened(study: Study) -> Study:
    """The study that is tried: what federation does, not the models beside it."""
    return study.model_copy(update={"rounds": ROUNDS, "personal": Personal(alone=False)})


def try_all(recipes: Sequence[Recipe], *, workers: int, talk: Console, out: Console) -> bool:
    """Tries each in a folder that is thrown away, prints what it showed; whether all is as promised."""
    sound = True
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=talk, transient=True) as progress:
        bar = progress.add_task("recipes", total=len(recipes))
        for recipe in recipes:
            progress.update(bar, description=recipe.name)
            with tempfile.TemporaryDirectory(prefix="polyward-recipe-") as folder:
                trial = tried(recipe, Path(folder) / recipe.name, workers=workers)
            print_trial(out, trial)
            sound = sound and not trial.faults
            progress.advance(bar)
    return sound


def tried(recipe: Recipe, folder: Path, *, images: int | None = None, workers: int = 2) -> Trial:
    """Trains `ROUNDS` rounds on generated images in a new `folder`, and looks at every promise.

    The faults, none of them if all is well, are those of `faults_of_losses`, `faults_of_encoders` and
    `faults_of_branches`. Raises `Problem` for a folder in use.
    """
    if folder.exists():
        raise Problem(str(folder), "is already there", remedy="choose a new folder")
    began = time.monotonic()
    study = shortened(recipe.study)
    write_recipe(recipe, folder / "generated", images=images)
    files = sorted((folder / "generated" / "sites").glob("*.toml"))
    sites = {site.name: site for site in map(read_site, files)}
    [where] = run_arm(study, files, "federated", folder / "run", workers=workers)
    ledger = Ledger(where)
    encoders = [committed.encoder for committed in ledger.rounds(study.digest())]
    contributions = ledger.contributions(study.digest())
    ledger.close()
    tasks = {name: [task for task in site.file.tasks if task in study.tasks] for name, site in sites.items()}
    losses: dict[tuple[str, str], tuple[float, float]] = {}
    for name in sites:
        epochs = read_epochs(folder / "run" / "sites" / name / "trainer/training" / f"{study.digest()}.jsonl")
        losses |= {(name, task): pair for task, pair in first_and_last(epochs, tasks[name]).items()}
    faults = [
        *faults_of_losses(losses),
        *faults_of_encoders(folder / "run", study, encoders, contributions, list(sites)),
        *(fault for file in files for fault in faults_of_branches(folder, study, file)),
    ]
    return Trial(recipe.name, tasks, losses, encoders, faults, time.monotonic() - began)


def first_and_last(epochs: Sequence[Epoch], tasks: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Each task's mean training loss in its first epoch and in its last; no entry for one that was never trained."""
    found = {}
    for task in tasks:
        losses = [epoch.losses[task] for epoch in epochs if task in epoch.losses]
        if losses:
            found[task] = (losses[0], losses[-1])
    return found


def faults_of_losses(losses: Mapping[tuple[str, str], tuple[float, float]]) -> list[str]:
    """One for each site whose losses, as shares of the first ones, are not lower in the mean of its tasks.

    Single tasks may rise: two rounds on some twenty images are a trial of the machinery, not of what can be learnt.
    """
    shares: dict[str, list[float]] = {}
    for (site, _), (first, last) in losses.items():
        shares.setdefault(site, []).append(last / first)
    means = {site: sum(several) / len(several) for site, several in shares.items()}
    return [f"{site}: the losses are {mean:.3f} of the first" for site, mean in means.items() if not mean < 1]


def faults_of_encoders(
    folder: Path,
    study: Study,
    encoders: Sequence[str],
    contributions: Mapping[int, Sequence[Contribution]],
    sites: Sequence[str],
) -> list[str]:
    """Whether every site is in every round, the encoder changes each time, and the hub's is the sites' weighted mean.

    The mean is computed again from the updates in the sites' spools.
    """
    faults = []
    if len(set(encoders)) != study.rounds + 1:
        faults.append(f"the hub's encoders are {[digest[:8] for digest in encoders]}")
    for number in range(1, study.rounds + 1):
        given = {one.site: one.weight for one in contributions.get(number, ())}
        if set(given) != set(sites):
            faults.append(f"round {number}: {sorted(given)} took part, of {sorted(sites)}")
            continue
        updates = {
            site: read_state(_only(folder / "sites" / site / "port/spool", f"*/update-{number:06}-*")) for site in sites
        }
        before, committed = (
            read_state(folder / "registry" / f"{encoders[which]}.safetensors") for which in (number - 1, number)
        )
        for name, array in committed.items():
            if group_of(name) != ENCODER:
                faults.append(f"round {number}: the hub holds {name}")
                continue
            mean = sum(given[site] * updates[site][name].astype(np.float64) for site in sites) / sum(given.values())
            change = max(float(np.abs(updates[site][name] - before[name]).max()) for site in sites)
            if np.abs(array - mean).max() > TOLERANCE[study.wire.codec] * change + TINY:
                faults.append(f"round {number}: {name} at the hub is not the mean of the sites' updates")
    return faults


def faults_of_branches(folder: Path, study: Study, file: Path) -> list[str]:
    """Whether a site's branches are what it makes by itself, to the byte.

    The last round is trained again elsewhere, from the hub's encoder and from the branches that the site itself kept
    in the round before. Anything from outside that had touched the branches would show.
    """
    name = read_site(file).name
    kept = folder / "run" / "sites" / name
    again = folder / "again" / "sites" / name
    shutil.copytree(kept, again, ignore=shutil.ignore_patterns(f"round-{study.rounds:06}*", "final*", "done-*"))
    site = open_site(file, study, folder / "again")
    record = _only(kept / "port/spool", f"*/done-{study.rounds:06}-*")
    digest = record.stem.rpartition("-")[2]
    state = _only(again / "port/spool", f"*/state-{digest}.safetensors")
    work = Work(study=study.digest(), round=study.rounds, state=str(state), state_digest=digest)
    LocalTrainer(site).train(work, lambda progress: None)
    entry = f"*/round-{study.rounds:06}.safetensors"
    own, repeated = read_state(_only(kept / "trainer/vault", entry)), read_state(_only(again / "trainer/vault", entry))
    faults = []
    if set(own) != set(repeated) or any(own[array].tobytes() != repeated[array].tobytes() for array in own):
        faults.append(f"{name}: the branches are not those that the site makes by itself")
    update = _only(kept / "port/spool", f"*/update-{study.rounds:06}-*")
    if sent := [array for array in read_state(update) if group_of(array) != ENCODER]:
        faults.append(f"{name}: the update holds {sent}")
    return faults


def print_trial(out: Console, trial: Trial) -> None:
    """How each loss fell, what became of the encoder, and every fault."""
    mark = "[red]has faults[/]" if trial.faults else "[green]as promised[/]"
    path = f"encoder {trial.encoders[0][:8]} → {trial.encoders[-1][:8]}"
    out.print(f"[bold]{trial.recipe}[/]  {path}  {mark}  {trial.seconds:.0f} s", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("site", "task"):
        table.add_column(heading, overflow="fold", min_width=20)
    for heading in ("first loss", "last"):
        table.add_column(heading, justify="right")
    for (site, task), (first, last) in trial.losses.items():
        table.add_row(site, task, f"{first:.3f}", f"{last:.3f}")
    out.print(table)
    for fault in trial.faults:
        out.print(f"[red]fault[/] {fault}", soft_wrap=True)


def _only(folder: Path, pattern: str) -> Path:
    [found] = folder.glob(pattern)
    return found
