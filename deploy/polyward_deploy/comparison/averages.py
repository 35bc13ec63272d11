"""A comparison -> means over seeds, for every task at every site and for every task over its sites."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from scipy.stats import t as student

from polyward_deploy.comparison.figures import Comparison, Figure
from polyward_deploy.results import shown
from polyward_shared.tasks import LOWER_IS_BETTER, gain

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
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean; of one seed there is none."""
        if self.sd is None:
            return None
        half = float(student.ppf(BOTH_TAILS, self.seeds - 1)) * self.sd / math.sqrt(self.seeds)
        return self.mean - half, self.mean + half

    @property
    def clear(self) -> bool:
        """Whether zero lies outside the interval, of enough seeds: more than the seeds alone would explain."""
        found = self.interval
        return found is not None and self.seeds >= LEAST_SEEDS and (found[0] > 0 or found[1] < 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A task at one site, or over all of its sites where `site` is empty; `count` test cases are behind it."""

    site: str
    task: str
    metric: str
    count: int | None
    seeds: int  # that were wanted
    averages: Mapping[str, Average]
    gains: Mapping[str, Average] = field(default_factory=dict)  # over the reference, positive when better

    @property
    def digits(self) -> int:
        """Decimals that suit the largest figure, the same for the whole line."""
        largest = max((abs(each.mean) for each in self.averages.values()), default=0.0)
        return 3 if largest < 2 else 2 if largest < 100 else 1

    @property
    def best(self) -> frozenset[str]:
        """The variations with the best mean among those that have a figure for every seed, if there are several."""
        whole = {name: each.mean for name, each in self.averages.items() if each.seeds == self.seeds}
        if len(whole) < 2:
            return frozenset()
        top = min(whole.values()) if self.metric in LOWER_IS_BETTER else max(whole.values())
        return frozenset(name for name, mean in whole.items() if mean == top)


def average(values: Sequence[float]) -> Average:
    """Of at least one value."""
    return Average(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def cells(comparison: Comparison) -> dict[tuple[str, str], dict[tuple[str, int], Figure]]:
    """The figures of every task at every site that owns it, by variation and seed; in the order of the sites and of
    the study's tasks."""
    found: dict[tuple[str, str], dict[tuple[str, int], Figure]] = defaultdict(dict)
    for each in comparison.figures:
        found[each.site, each.task][each.variation, each.seed] = each
    sites = sorted({site for owners in comparison.owners.values() for site in owners})
    return {
        (site, task): found.get((site, task), {})
        for site in sites
        for task, owners in comparison.owners.items()
        if site in owners
    }


def site_lines(comparison: Comparison) -> list[Line]:
    """A line for every task of every site that owns it; gains of variations that have all seeds."""
    return [_at_site(comparison, site, task, found) for (site, task), found in cells(comparison).items()]


def task_lines(comparison: Comparison) -> list[Line]:
    """A line for every task: the mean over sites, each weighted by its test cases, and its gain over the reference.

    In it are the variations that have the task, and sites that have a figure in every run of those, so that all are
    asked the same cases. A gain is the difference in each seed first; its deviation is that of the differences.
    """
    return [_over_sites(comparison, task) for task, owners in comparison.owners.items() if owners]


def whole_sites(comparison: Comparison, task: str) -> list[Figure]:
    """The task's figures at those sites that have one for every seed of every variation that has the task at all."""
    found = [each for each in comparison.figures if each.task == task]
    runs = len({each.variation for each in found}) * len(comparison.seeds)
    whole = {site for site, count in Counter(each.site for each in found).items() if count == runs}
    return [each for each in found if each.site in whole]


def weighted_means(comparison: Comparison, task: str) -> dict[tuple[str, int], float]:
    """By variation and seed: the task's mean over its sites, each weighted by its cases. Empty if no site has all."""
    runs: dict[tuple[str, int], list[Figure]] = defaultdict(list)
    for each in whole_sites(comparison, task):
        runs[each.variation, each.seed].append(each)
    return {
        key: _weighted(runs[key])
        for name in comparison.names
        for seed in comparison.seeds
        if (key := (name, seed)) in runs
    }


def paired(comparison: Comparison, task: str, values: Mapping[tuple[str, int], float]) -> dict[str, list[float]]:
    """What each variation gains over the reference, seed by seed, positive when better; those with all seeds."""
    metric, against = comparison.metric(task), comparison.reference
    return {
        name: [gain(metric, values[name, seed], values[against, seed]) for seed in comparison.seeds]
        for name in comparison.names
        if name != against and all((each, seed) in values for each in (name, against) for seed in comparison.seeds)
    }


def _at_site(comparison: Comparison, site: str, task: str, found: Mapping[tuple[str, int], Figure]) -> Line:
    values = {key: each.value for key, each in found.items()}
    several = {name: [value for (of, _), value in values.items() if of == name] for name in comparison.names}
    alike = len({each.count for each in found.values()}) == 1  # figures over other cases are not compared
    return Line(
        site=site,
        task=task,
        metric=comparison.metric(task),
        count=max((each.count for each in found.values()), default=None),
        seeds=len(comparison.seeds),
        averages={name: average(given) for name, given in several.items() if given},
        gains={name: average(gains) for name, gains in paired(comparison, task, values).items()} if alike else {},
    )


def _over_sites(comparison: Comparison, task: str) -> Line:
    means = weighted_means(comparison, task)
    cases = {each.site: each.count for each in whole_sites(comparison, task)}
    names = [name for name in comparison.names if (name, comparison.seeds[0]) in means]
    return Line(
        site="",
        task=task,
        metric=comparison.metric(task),
        count=sum(cases.values()) or None,
        seeds=len(comparison.seeds),
        averages={name: average([means[name, seed] for seed in comparison.seeds]) for name in names},
        gains={name: average(gains) for name, gains in paired(comparison, task, means).items()},
    )


def _weighted(figures: Iterable[Figure]) -> float:
    given = list(figures)
    return sum(each.value * each.count for each in given) / sum(each.count for each in given)


def sentences(comparison: Comparison) -> list[str]:
    """For each task who is best, and which differences from the reference are more than the seeds explain."""
    return [_sentence(line, comparison.reference) for line in task_lines(comparison) if line.best]


def _sentence(line: Line, reference: str) -> str:
    best = [name for name in line.averages if name in line.best]
    text = f"{line.task}: {_listed(best)} {'has' if len(best) == 1 else 'have'} the best mean"
    if best[0] in line.gains:
        text += f", {plus_minus(line.gains[best[0]], line.digits, signed=True)} against {reference}"
    if any(gain.sd is not None for gain in line.gains.values()):
        better = [name for name, gain in line.gains.items() if gain.clear and gain.mean > 0]
        worse = [name for name, gain in line.gains.items() if gain.clear and gain.mean < 0]
        found = [f"{_listed(names)} {word}" for names, word in ((better, "better"), (worse, "worse")) if names]
        text += f"; beyond the spread of the seeds: {', '.join(found) or 'nothing'}"
    return f"{text}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def plus_minus(value: Average, digits: int, *, signed: bool = False) -> str:
    """Mean and deviation on one line."""
    spread = "" if value.sd is None else f" ± {shown(value.sd, digits)}"
    return f"{shown(value.mean, digits, signed=signed)}{spread}"


def caveat(comparison: Comparison) -> str:
    """What the figures do not say."""
    return " ".join(_caveats(comparison))


def _caveats(comparison: Comparison) -> Iterator[str]:
    seeds = len(comparison.seeds)
    if seeds > 1:
        yield f"± is the standard deviation over {seeds} seeds."
        if comparison.reference in comparison.names:
            yield (
                f"{CLEAR} marks a difference from {comparison.reference} whose 95-percent interval (Student's, paired "
                "by seed) leaves out zero, without a correction for the number of differences looked at."
            )
    else:
        yield "One seed tells nothing about spread: repeat with others before believing a difference."
    for name in comparison.names:
        lines = [line for line in task_lines(comparison) if line.averages]
        if lacking := [line.task for line in lines if name not in line.averages]:
            yield f"{name} has no figures of {', '.join(lacking)}, and is not compared there."
    yield from comparison.notes
    yield (
        "Seeds change initialisation and order; the patients stay the same, and other patients may move the figures "
        "further."
    )
