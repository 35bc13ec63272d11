"""`polyward-sim bench related`: what six methods gain over training alone, by setting and relatedness of the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console

from polyward_client.site import read_site
from polyward_deploy.comparison.averages import cells, paired
from polyward_deploy.comparison.comparing import compare
from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.comparison.page import write_page
from polyward_deploy.comparison.tables import write_comparison
from polyward_deploy.experiments.outcome import Figure, Outcome, Sheet, circumstances, values_of
from polyward_deploy.experiments.related import DESCRIBED, WARDS, Ward, write_ward
from polyward_deploy.methods import equalised
from polyward_deploy.results import ABSENT, shown
from polyward_deploy.selection import COMPARED, REFERENCE, variations
from polyward_shared.study import read_study

NAME = "related"
SEEDS = (0,)  # for a first look in a few minutes; others tell how much chance is in it
RELATEDNESS = (0.0, 1.0)
ROUNDS = 5
METHODS = ("local", "fedavg", "fedper", "fedrep", "tasks", "cagrad")
SOURCE = (
    "Settings after FMTL-Bench (arXiv 2402.12876): IID-1, NIID-2, and NIID-4 with NIID-6. Published there for NYUD-v2 "
    "as the mean improvement over local: IID-1 FedAvg +13.5 %, FedRep +3.0 %, CAGrad +3.3 %; NIID-2 FedAvg -25.7 %, "
    "FedRep +0.4 %, CAGrad -26.2 %. Nothing here is expected to repeat those figures: images, tasks and networks are "
    "others, and there NIID-2 averages the decoders of different tasks, which is refused here."
)


def bench(
    folder: Path,
    seeds: Sequence[int],
    *,
    workers: int,
    talk: Console,
    wards: Sequence[Ward] = WARDS,
    relatedness: Sequence[float] = RELATEDNESS,
    rounds: int = ROUNDS,
) -> Outcome:
    """Writes what is not there, trains what is not finished, and says what all runs found."""
    found = {
        (ward, r): _compared(folder / f"{ward}-{r:g}", ward, r, seeds, rounds=rounds, workers=workers, talk=talk)
        for ward in wards
        for r in relatedness
    }
    figures = tuple(figure for (ward, r), each in found.items() for figure in gains(each, titled(ward, r)))
    return Outcome.model_validate(
        {
            **circumstances(),
            "name": NAME,
            "title": "Tasks that are related, and tasks that are not",
            "lead": (
                "Sites with different tasks share an encoder. With relatedness 1 all tasks read one feature of the "
                "shape, with 0 each reads its own; sites have all tasks or one, the same scanner or different ones."
            ),
            "generated": "A program drew all images. They stand for no patients, and no figure is medical evidence.",
            "source": SOURCE,
            "seconds": sum(each.seconds for each in found.values()),
            "seeds": tuple(seeds),
            "marks": (),
            "sheets": (_sheet(figures, found),),
            "notes": (
                *(f"{ward}: {DESCRIBED[ward]}." for ward in wards),
                "Local trains as many rounds of the same work. FedAvg averages branches too and has no tuning at the "
                "end. Seeds change initialisation and order, not the images: small differences mean nothing. Every "
                "setting has a page of its own beside this one, with all sites and intervals.",
            ),
            "figures": figures,
        }
    )


def _compared(
    folder: Path, ward: Ward, relatedness: float, seeds: Sequence[int], *, rounds: int, workers: int, talk: Console
) -> Comparison:
    path = write_ward(folder, ward, relatedness, rounds=rounds)
    study = equalised(read_study(path))
    sites = [read_site(each) for each in sorted((folder / "sites").glob("*.toml"))]
    ways, notes = variations(study, sites, METHODS, leave_out=True)
    talk.print(titled(ward, relatedness), highlight=False)
    results = folder / "results"
    found = compare(COMPARED, study, sites, ways, seeds, results, processes=workers, talk=talk, notes=notes)
    write_comparison(results, found)
    write_page(results, found)
    return found


def titled(ward: Ward, relatedness: float) -> str:
    return f"{ward}, relatedness {relatedness:g}"


def gains(comparison: Comparison, setting: str) -> Iterable[Figure]:
    """By method and seed: the mean over cells (a task at a site) of the gain over local as a share of local's figure,
    positive when better (FMTL-Bench, equation of the mean improvement), and the share of the cells that gain."""
    relative: dict[tuple[str, int], list[float]] = {}
    for (_, task), figures in cells(comparison).items():
        values = {key: figure.value for key, figure in figures.items()}
        for method, by_seed in paired(comparison, task, values).items():
            for seed, gain in zip(comparison.seeds, by_seed, strict=True):
                local = abs(values[REFERENCE, seed])
                if local:
                    relative.setdefault((method, seed), []).append(gain / local)
    for (method, seed), given in relative.items():
        yield Figure(setting=setting, method=method, seed=seed, name="improvement", value=fmean(given))
        yield Figure(
            setting=setting, method=method, seed=seed, name="cells_better", value=fmean(gain > 0 for gain in given)
        )


def _sheet(figures: Sequence[Figure], found: dict[tuple[Ward, float], Comparison]) -> Sheet:
    methods = [method for method in METHODS if method != REFERENCE]
    return Sheet(
        "Mean improvement over training alone",
        "In percent of what local reaches, mean over all tasks of all sites, then mean ± standard deviation over "
        "seeds; in brackets the share of these cells that gain. Positive is better for every metric. FedAvg is "
        "shown for tasks with two owners.",
        ("", *methods),
        tuple((titled(ward, r), *(_cell(figures, titled(ward, r), method) for method in methods)) for ward, r in found),
    )


def _cell(figures: Sequence[Figure], setting: str, method: str) -> str:
    by_seed = [100 * value for value in values_of(figures, "improvement", setting=setting, method=method).values()]
    better = list(values_of(figures, "cells_better", setting=setting, method=method).values())
    if not by_seed:
        return ABSENT
    spread = f"\n± {shown(stdev(by_seed), 1)}" if len(by_seed) > 1 else ""
    return f"{shown(fmean(by_seed), 1, signed=True)}{spread}\n[{fmean(better):.0%}]"
