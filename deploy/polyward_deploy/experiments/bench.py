"""`polyward-sim bench NAME`: runs an experiment, prints what it found and writes files and page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from polyward_deploy.experiments import few_sample_bench, linear_bench
from polyward_deploy.experiments.names import Experiment
from polyward_deploy.experiments.outcome import print_outcome, write_outcome
from polyward_deploy.experiments.page import write_page
from polyward_shared.problems import Problem


def run_bench(
    experiment: Experiment,
    seeds: Sequence[int] | None,
    folder: Path | None,
    *,
    generated: bool,
    workers: int,
    talk: Console,
    out: Console,
) -> bool:
    """Whether every pass mark is met. Raises `Problem`."""
    if generated and experiment is not Experiment.FEW_SAMPLE:
        raise Problem(
            "--generated", f"is for {Experiment.FEW_SAMPLE}: {experiment} has no real data", remedy="leave it out"
        )
    name = few_sample_bench.GENERATED_NAME if generated else experiment.value
    target = folder or Path("out") / "bench" / name
    match experiment:
        case Experiment.LINEAR:
            outcome = linear_bench.bench(target, seeds or linear_bench.SEEDS, workers=workers, talk=talk)
            plots = linear_bench.plots(outcome)
        case Experiment.FEW_SAMPLE:
            chosen = seeds or few_sample_bench.SEEDS
            outcome = few_sample_bench.bench(target, chosen, generated=generated, workers=workers, talk=talk)
            plots = few_sample_bench.plots(outcome)
        case Experiment.RELATED:
            from polyward_deploy.experiments import related_bench  # the real trainer: importing torch takes seconds

            outcome = related_bench.bench(target, seeds or related_bench.SEEDS, workers=workers, talk=talk)
            plots = []
        case Experiment.FAULTS:
            from polyward_deploy.experiments import faults_bench

            outcome = faults_bench.bench(target, seeds or faults_bench.SEEDS, workers=workers, talk=talk)
            plots = []
    write_outcome(target, outcome)
    print_outcome(out, outcome)
    out.print(f"page: {write_page(target, outcome, plots)}")
    return outcome.passed
