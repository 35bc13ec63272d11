"""From variations of a study to their comparison: plan, train what is not finished, read, write, show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from polyward_client.site import Site
from polyward_deploy.comparison.figures import Comparison, read
from polyward_deploy.comparison.page import write_page
from polyward_deploy.comparison.plan import Subject, Variation, planned, same_comparison
from polyward_deploy.comparison.tables import write_comparison
from polyward_deploy.comparison.terminal import print_comparison
from polyward_deploy.comparison.training import train
from polyward_shared.problems import Problem
from polyward_shared.study import Study


def compare(
    subject: Subject,
    study: Study,
    sites: Sequence[Site],
    variations: Sequence[Variation],
    seeds: Sequence[int],
    folder: Path,
    *,
    processes: int,
    talk: Console,
    notes: Iterable[str] = (),
) -> Comparison:
    """Trains what is not finished, shows on `talk` how far it is, and reads the figures of all.

    Raises `Problem` for a study that starts with a registered encoder, for a folder that belongs to another
    comparison, and when no variation came to its end.
    """
    if study.encoder.start != "seed":
        raise Problem(
            "encoder.start", "names an encoder of a hub's registry, which runs here do not have", expected="seed"
        )
    same_comparison(study, sites, folder)
    runs = planned(variations, seeds, folder)
    failures = train(runs, processes=processes, talk=talk)
    if {run.variation for run in runs if run.title in failures} == {run.variation for run in runs}:
        title, reason = next(iter(failures.items()))
        raise Problem(str(folder), f"every {subject.one} has a run that failed", remedy=f"{title}: {reason}")
    return read(subject, study, sites, variations, runs, failures, notes)


def show(comparison: Comparison, folder: Path, out: Console) -> None:
    """Writes all files, prints the tables and says where the page is."""
    write_comparison(folder, comparison)
    print_comparison(out, comparison)
    out.print(f"page: {write_page(folder, comparison)}")
