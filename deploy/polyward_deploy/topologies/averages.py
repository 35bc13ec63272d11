"""A comparison of topologies -> means over seeds, for every task at every site and for every task over its sites."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

from polyward_deploy.results import shown, write_csv
from polyward_deploy.topologies.plan import Arrangement
from polyward_deploy.topologies.runs import Comparison, Figure
from polyward_shared.tasks import LOWER_IS_BETTER

REFERENCE: Arrangement = "parallel"
BOTH_TAILS = 0.975  # 95 %
LEAST_SEEDS = 3  # two that happen to agree would make anything clear
CLEAR = "*"


@dataclass(frozen=True, slots=True)
class Average:
    """Mean and sample standard deviation over `seeds` runs; no deviation of one."""

    mean: float
    sd: float | None
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether zero lies outside Student's 95 % interval of the mean: more than the seeds alone would explain."""
        if self.sd is None or self.seeds < LEAST_SEEDS:
            return False
        return abs(self.mean) > float(student.ppf(BOTH_TAILS, self.seeds - 1)) * self.sd / math.sqrt(self.seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A task at one site, or over all of its sites where `site` is empty; `count` test cases are behind it."""

    site: str
    task: str
    metric: str
    count: int | None
    seeds: int  # that were wanted
    averages: Mapping[Arrangement, Average]
    gains: Mapping[Arrangement, Average] = field(default_factory=dict)  # over parallel, positive when better

    @property
    def digits(self) -> int:
        """Decimals that suit the largest figure, the same for the whole line."""
        largest = max((abs(each.mean) for each in self.averages.values()), default=0.0)
        return 3 if largest < 2 else 2 if largest < 100 else 1

    @property
    def best(self) -> frozenset[Arrangement]:
        """The topologies with the best mean among those that have a figure for every seed, if there are several."""
        whole = {name: each.mean for name, each in self.averages.items() if each.seeds == self.seeds}
        if len(whole) < 2:
            return frozenset()
        top = min(whole.values()) if self.metric in LOWER_IS_BETTER else max(whole.values())
        return frozenset(name for name, mean in whole.items() if mean == top)


def average(values: Sequence[float]) -> Average:
    """Of at least one value."""
    return Average(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def site_lines(comparison: Comparison) -> list[Line]:
    """A line for every task of every site that owns it, in the order of the sites and of the study's tasks."""
    names = sorted({site for owners in comparison.owners.values() for site in owners})
    lines = []
    for site in names:
        for task in (task for task, owners in comparison.owners.items() if site in owners):
            found = [each for each in comparison.figures if (each.site, each.task) == (site, task)]
            values = {
                name: [each.value for each in found if each.arrangement == name] for name in comparison.arrangements
            }
            lines.append(
                Line(
                    site=site,
                    task=task,
                    metric=comparison.metric(task),
                    count=max((each.count for each in found), default=None),
                    seeds=len(comparison.seeds),
                    averages={name: average(given) for name, given in values.items() if given},
                )
            )
    return lines


def task_lines(comparison: Comparison) -> list[Line]:
    """A line for every task: the mean over sites, each weighted by its test cases, and what it gains over parallel.

    Only sites that have a figure in every run are in it, so that all topologies are asked the same cases. A gain is
    the difference in each seed first; its deviation is that of the differences.
    """
    return [_over_sites(comparison, task) for task, owners in comparison.owners.items() if owners]


def weighted_means(comparison: Comparison, task: str) -> dict[tuple[Arrangement, int], float]:
    """By topology and seed: the task's mean over its sites, each weighted by its cases. Empty if no site has all."""
    found = _in_every_run(comparison, task)
    return {
        (name, seed): _weighted(each for each in found if (each.arrangement, each.seed) == (name, seed))
        for name in comparison.arrangements
        for seed in comparison.seeds
        if found
    }


def _over_sites(comparison: Comparison, task: str) -> Line:
    means, metric = weighted_means(comparison, task), comparison.metric(task)
    cases = {each.site: each.count for each in _in_every_run(comparison, task)}
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    names = comparison.arrangements if means else ()
    others = [name for name in names if name != REFERENCE] if REFERENCE in names else []
    return Line(
        site="",
        task=task,
        metric=metric,
        count=sum(cases.values()) or None,
        seeds=len(comparison.seeds),
        averages={name: average([means[name, seed] for seed in comparison.seeds]) for name in names},
        gains={
            name: average([sign * (means[name, seed] - means[REFERENCE, seed]) for seed in comparison.seeds])
            for name in others
        },
    )


def _in_every_run(comparison: Comparison, task: str) -> list[Figure]:
    """The task's figures at those sites that have one for every topology and seed."""
    found = [each for each in comparison.figures if each.task == task]
    runs = len(comparison.arrangements) * len(comparison.seeds)
    whole = {site for site, count in Counter(each.site for each in found).items() if count == runs}
    return [each for each in found if each.site in whole]


def _weighted(figures: Iterable[Figure]) -> float:
    given = list(figures)
    return sum(each.value * each.count for each in given) / sum(each.count for each in given)


def sentences(comparison: Comparison) -> list[str]:
    """For each task who is best, and which differences from parallel are more than the seeds explain."""
    return [_sentence(line) for line in task_lines(comparison) if line.best]


def _sentence(line: Line) -> str:
    best = [name for name in line.averages if name in line.best]
    text = f"{line.task}: {' and '.join(best)} has the best mean"
    if best[0] in line.gains:
        text += f", {plus_minus(line.gains[best[0]], line.digits, signed=True)} against {REFERENCE}"
    if any(gain.sd is not None for gain in line.gains.values()):
        better = [name for name, gain in line.gains.items() if gain.clear and gain.mean > 0]
        worse = [name for name, gain in line.gains.items() if gain.clear and gain.mean < 0]
        found = [f"{' and '.join(names)} {word}" for names, word in ((better, "better"), (worse, "worse")) if names]
        text += f"; beyond the spread of the seeds: {', '.join(found) or 'nothing'}"
    return f"{text}."


def plus_minus(value: Average, digits: int, *, signed: bool = False) -> str:
    """Mean and deviation on one line."""
    spread = "" if value.sd is None else f" ± {shown(value.sd, digits)}"
    return f"{shown(value.mean, digits, signed=signed)}{spread}"


def caveat(comparison: Comparison) -> str:
    """What the figures do not say."""
    seeds = len(comparison.seeds)
    lonely = [task for task, owners in comparison.owners.items() if len(owners) == 1]
    if seeds > 1:
        text = f"± is the standard deviation over {seeds} seeds. "
        if REFERENCE in comparison.arrangements:
            text += (
                f"{CLEAR} marks a difference from {REFERENCE} whose 95-percent interval (Student's, paired by seed) "
                "leaves out zero, without a correction for the number of differences looked at. "
            )
    else:
        text = "One seed tells nothing about spread: repeat with others before believing a difference. "
    if "single" in comparison.arrangements and lonely:
        text += f"One site alone owns {', '.join(lonely)}: there single is no federation. "
    return text + (
        "Seeds change initialisation and order; the patients stay the same, and other patients may move the figures "
        "further."
    )


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """`topologies.json` with everything, `figures.csv` with every seed's, `table.csv` with the means and gains.

    In `table.csv` an empty site stands for the mean over sites.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "topologies.json").write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_csv(folder / "figures.csv", [each.name for each in fields(Figure)], map(astuple, comparison.figures))
    header = ["site", "task", "metric", "count", "topology", "seeds", "mean", "sd", "gain", "gain_sd", "clear", "best"]
    lines = [*site_lines(comparison), *task_lines(comparison)]
    write_csv(folder / "table.csv", header, (cells for line in lines for cells in _cells(line)))


def _cells(line: Line) -> Iterable[tuple[object, ...]]:
    for name, each in line.averages.items():
        gain = line.gains.get(name)
        gained = (gain.mean, gain.sd, int(gain.clear)) if gain else (None, None, None)
        shared = (line.site, line.task, line.metric, line.count, name, each.seeds, each.mean, each.sd)
        yield (*shared, *gained, int(name in line.best))
