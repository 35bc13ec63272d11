"""`polyward-sim`: whole federations on one machine."""

from __future__ import annotations

import os
import shutil
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from polyward_client.site import read_site
from polyward_deploy.arms import ARMS, Arm
from polyward_deploy.experiments.names import Experiment
from polyward_deploy.recipes.catalogue import PREFIX, find
from polyward_deploy.recipes.steps import adapted_sites, all_recipes, generated_study, recipe_table
from polyward_shared.commands import new_app, out, run_app, talk
from polyward_shared.problems import Problem
from polyward_shared.study import Study, read_study

app = new_app("Simulate a federation on one machine: the same code as in hospitals, without the network.")

FolderOption = Annotated[Path | None, typer.Option("--out", help="where results go; out/<study id> if absent")]
WorkersOption = Annotated[int, typer.Option(min=1, help="sites at work at once; one core each")]
SitesOption = Annotated[
    list[Path] | None, typer.Option("--site", help="a site.toml; all of sites/*.toml beside the study if absent")
]
SeedsOption = Annotated[str, typer.Option(help="whole numbers with commas; each repeats everything")]
RoundsOption = Annotated[int | None, typer.Option(min=1, help="instead of the study's own")]
ProcessesOption = Annotated[int, typer.Option(min=1, help="runs at once, each in a process of its own; one core each")]
CORES = max(1, min(8, os.cpu_count() or 1))


class Engine(StrEnum):
    """How the sites are run."""

    INPROCESS = "inprocess"
    RAY = "ray"
    PROCESSES = "processes"


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="a folder that does not exist yet")],
    hospitals: Annotated[int, typer.Option(min=2, max=20)] = 5,
    images: Annotated[int, typer.Option(min=30, help="in all hospitals together")] = 600,
    size: Annotated[int, typer.Option(help="side of an image in pixels")] = 64,
    dimensions: Annotated[int, typer.Option(min=2, max=3)] = 2,
    seed: int = 0,
) -> None:
    """Write a study, sites and GENERATED images to begin with; edit them into your own."""
    from polyward_deploy.hospitals import write_hospitals

    if folder.exists() and any(folder.iterdir()):
        raise Problem(str(folder), "is not empty", remedy="choose a new folder")
    study = write_hospitals(folder, hospitals=hospitals, images=images, size=size, seed=seed, dimensions=dimensions)
    out.print(f"[green]written[/] {study} and {hospitals} sites; the images are generated and stand for no patients")
    out.print(f"next: polyward-sim run {study}")


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="a study.toml, or recipe:NAME")],
    sites: SitesOption = None,
    folder: FolderOption = None,
    engine: Annotated[Engine, typer.Option(help="one process, Ray, or a real hub and real nodes")] = Engine.INPROCESS,
    compare: Annotated[bool, typer.Option(help="also train each site alone, and full FedAvg")] = True,
    workers: WorkersOption = CORES,
    fresh: Annotated[bool, typer.Option("--fresh", help="throw away what an earlier run left in the folder")] = False,
    rounds: RoundsOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="instead of the study's own")] = None,
    images: Annotated[int | None, typer.Option(min=20, help="of a recipe, in all sites together")] = None,
    start: Annotated[
        Path | None, typer.Option(help="a file with the first encoder; one of slices is inflated for volumes")
    ] = None,
    before: Annotated[bool, typer.Option(help="train what a recipe puts before its study, and start with that")] = True,
    late: Annotated[
        list[str] | None, typer.Option(metavar="SITE=ROUND", help="a site that joins in this round")
    ] = None,
    leaves: Annotated[
        list[str] | None, typer.Option(metavar="SITE=ROUND", help="a site that is gone after this round")
    ] = None,
) -> None:
    """Run a study's whole federation here; goes on where an interrupted run stopped."""
    if study.startswith(PREFIX):
        target = folder or Path("out") / study.removeprefix(PREFIX)
        _make_room(target, fresh)
        path = generated_study(study, target, images=images)
    else:
        if images is not None:
            raise Problem("--images", "is for recipes, whose images are generated", remedy="leave it out")
        path = Path(study)
        target = folder or Path("out") / read_study(path).id
        _make_room(target, fresh)
    wanted = _with_rounds(read_study(path), rounds)
    if seed is not None:
        wanted = wanted.model_copy(update={"seed": seed})
    files = _site_files(wanted, path, sites)
    from polyward_deploy.attendance import stays_of  # after reading: importing torch takes seconds
    from polyward_deploy.compare import run_comparison
    from polyward_deploy.start import started, trained_before

    recipe = find(study) if study.startswith(PREFIX) else None
    if before and start is None and recipe is not None and recipe.before is not None:
        first = recipe.before if rounds is None else recipe.before.model_copy(update={"rounds": rounds})
        start = trained_before(recipe, first, target, images=images, workers=workers, talk=talk, out=out)
    if start is not None:
        wanted, start = started(wanted, start, target)
    stays = stays_of(late or [], leaves or [], [read_site(file).name for file in files], wanted.rounds)
    if stays and engine is not Engine.INPROCESS:
        raise Problem("--late, --leaves", f"found --engine {engine}", expected="sites that are run in one process")
    arms: tuple[Arm, ...] = ARMS if compare else ("federated",)
    page = run_comparison(
        wanted, files, arms, target, engine=engine.value, workers=workers, talk=talk, out=out, start=start, stays=stays
    )
    out.print(f"page: {page}")


@app.command()
def topologies(
    study: Annotated[Path, typer.Argument(help="a study.toml")],
    names: Annotated[
        str, typer.Option("--topologies", help="some of single, parallel, cascaded, interacted, hybrid; with commas")
    ] = "single,parallel,cascaded,interacted,hybrid",
    seeds: SeedsOption = "0,1,2",
    sites: SitesOption = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="where results go; out/<study id>-topologies if absent")
    ] = None,
    rounds: RoundsOption = None,
    processes: ProcessesOption = CORES,
) -> None:
    """Train a study in several topologies with several seeds, side by side; goes on where it was interrupted."""
    from polyward_deploy.comparison.comparing import compare, show
    from polyward_deploy.comparison.plan import seeds_of
    from polyward_deploy.topologies import TOPOLOGIES, arrangements_of, notes, variations

    chosen, numbers = arrangements_of(names), seeds_of(seeds)
    wanted = _with_rounds(read_study(study), rounds)
    target = folder or Path("out") / f"{wanted.id}-topologies"
    owners = [read_site(path) for path in _site_files(wanted, study, sites)]
    ways, said = variations(wanted, owners, chosen), notes(wanted, owners, chosen)
    found = compare(TOPOLOGIES, wanted, owners, ways, numbers, target, processes=processes, talk=talk, notes=said)
    show(found, target, out)
    if found.failures:
        raise typer.Exit(1)


@app.command("compare")
def compare_methods(
    study: Annotated[Path, typer.Argument(help="a study.toml")],
    names: Annotated[
        str, typer.Option("--methods", help="with commas, or all; local is always among them; see `methods`")
    ] = "local,fedavg,fedper,fedrep,tasks,cagrad",
    seeds: SeedsOption = "0,1,2",
    sites: SitesOption = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="where results go; out/<study id>-methods if absent")
    ] = None,
    rounds: RoundsOption = None,
    processes: ProcessesOption = CORES,
) -> None:
    """Train a study by several federated methods with several seeds; goes on where it was interrupted."""
    from polyward_deploy.comparison.comparing import compare, show
    from polyward_deploy.comparison.plan import seeds_of
    from polyward_deploy.methods import equalised
    from polyward_deploy.selection import ALL, COMPARED, chosen, variations

    methods, numbers = chosen(names), seeds_of(seeds)
    given = _with_rounds(read_study(study), rounds)
    wanted = equalised(given)
    if wanted != given:
        talk.print("One pass over the data in a round cannot be divided, as FedRep does: here every method has two.")
    target = folder or Path("out") / f"{wanted.id}-methods"
    owners = [read_site(path) for path in _site_files(wanted, study, sites)]
    ways, said = variations(wanted, owners, methods, leave_out=names.strip() == ALL)
    found = compare(COMPARED, wanted, owners, ways, numbers, target, processes=processes, talk=talk, notes=said)
    show(found, target, out)
    if found.failures:
        raise typer.Exit(1)


@app.command()
def methods() -> None:
    """List the federated methods that `compare` knows, and what each asks of the hub."""
    from polyward_deploy.selection import method_table

    out.print(method_table())


@app.command()
def bench(
    experiment: Annotated[Experiment, typer.Argument(help="the experiment")],
    seeds: Annotated[str | None, typer.Option(help="whole numbers with commas; the experiment's own if absent")] = None,
    generated: Annotated[bool, typer.Option("--generated", help="few-sample: digits drawn by a program")] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", help="where results go; out/bench/<experiment> if absent")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="runs at once; one core each")] = CORES,
) -> None:
    """Run an experiment of the field; goes on where it was interrupted, and fails where a pass mark is missed."""
    from polyward_deploy.comparison.plan import seeds_of
    from polyward_deploy.experiments.bench import run_bench

    numbers = None if seeds is None else seeds_of(seeds)
    if not run_bench(experiment, numbers, folder, generated=generated, workers=workers, talk=talk, out=out):
        raise typer.Exit(1)


@app.command()
def recipes(
    names: Annotated[list[str] | None, typer.Argument(metavar="[recipe:NAME]...", help="all if absent")] = None,
    trial: Annotated[bool, typer.Option("--try", help="train two rounds of each and check what they left")] = False,
    workers: WorkersOption = CORES,
) -> None:
    """List the ready studies, or try them; `run recipe:NAME` trains one on generated images."""
    chosen = all_recipes(names)
    if not trial:
        out.print(recipe_table(chosen, width=out.width))
        return
    from polyward_deploy.recipes.trial import try_all

    if not try_all(chosen, workers=workers, talk=talk, out=out):
        raise typer.Exit(1)


@app.command()
def adapt(
    recipe: Annotated[str, typer.Argument(help="recipe:NAME")],
    root: Annotated[Path, typer.Argument(help="the folder that holds the real data set")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="where manifest, site file and images go")],
) -> None:
    """Turn a real data set into a site for a recipe's study."""
    if folder.exists() and any(folder.iterdir()):
        raise Problem(str(folder), "is not empty", remedy="choose a new folder")
    files = adapted_sites(recipe, root, folder)
    out.print(f"[green]written[/] {folder / 'manifest.csv'} and {', '.join(str(path) for path in files)}")
    out.print(f"next: read {folder / 'README.md'}, which says where the data come from and what to check")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where the demonstration goes")] = Path("out/demo"),
    workers: WorkersOption = CORES,
) -> None:
    """Five generated hospitals with different tasks train one encoder."""
    from polyward_deploy.compare import run_comparison
    from polyward_deploy.hospitals import write_hospitals

    began = time.monotonic()
    if folder.exists():
        shutil.rmtree(folder)
    path = write_hospitals(folder)
    study = read_study(path)
    files = sorted((folder / "sites").glob("*.toml"))
    page = run_comparison(
        study, files, ARMS, folder / "results", engine="inprocess", workers=workers, talk=talk, out=out
    )
    out.print(f"page: {page}   ({time.monotonic() - began:.0f} s)")


def _with_rounds(study: Study, rounds: int | None) -> Study:
    return study if rounds is None else study.model_copy(update={"rounds": rounds})


def _make_room(folder: Path, fresh: bool) -> None:
    if fresh and folder.exists():
        shutil.rmtree(folder)


def _site_files(study: Study, path: Path, named: list[Path] | None) -> list[Path]:
    """The named files, else all beside the study, without a mistake in any."""
    files = named or sorted((path.parent / "sites").glob("*.toml"))
    if not files:
        raise Problem(str(path.parent / "sites"), "holds no site files", remedy="name them with --site")
    _check_sites(study, files)
    return files


def _check_sites(study: Study, files: list[Path]) -> None:
    """Every mistake in a site's file before anything is trained."""
    names: dict[str, Path] = {}
    for path in files:
        site = read_site(path)
        if site.name in names:
            raise Problem(str(path), f"name: {site.name!r} is also the name of {names[site.name]}", remedy="rename one")
        names[site.name] = path
        if unknown := sorted(set(site.file.tasks) - set(study.tasks)):
            raise Problem(
                str(path),
                f"tasks: found {unknown[0]!r}",
                expected=f"tasks of the study: {', '.join(study.tasks)}",
                remedy="name in the site's tasks only those that the study has",
            )


def main() -> None:
    run_app(app)
