"""A comparison -> one line for each variation: its rank among all, cells better than the reference, Delta, and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.stats import rankdata, studentized_range

from polyward_deploy.comparison.averages import Average, average, cells, paired, site_lines, weighted_means
from polyward_deploy.comparison.figures import Comparison
from polyward_deploy.plots import BOUNDED
from polyward_shared.tasks import LOWER_IS_BETTER

ALPHA = 0.05
LEAST_BLOCKS = 10  # Demsar: the test's distribution is good from about N > 10 on
TINY = 0.05  # of a figure between 0 and 1: a share of less than this says nothing


@dataclass(frozen=True, slots=True)
class Ranks:
    """Mean rank of every variation over `blocks` of (site, task, seed), 1 the best; two that lie farther apart than
    `critical` differ at the level of 5 %, were the blocks independent."""

    mean: Mapping[str, float]
    blocks: int
    critical: float

    @property
    def enough(self) -> bool:
        return self.blocks >= LEAST_BLOCKS and len(self.mean) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One variation against the reference: the cells of (site, task) that both have, better and worse.

    Rank, `delta` and what is said of sites are over the cells that all variations have. `delta` is the mean over tasks
    of the relative gain in percent, by seed; `worst` the site with the least one.
    """

    name: str
    cells: int
    better: int
    worse: int
    clearly_better: int
    clearly_worse: int
    rank: float | None
    delta: Average | None
    worst: tuple[str, float] | None
    sites_gaining: int
    sites: int
    bytes_down: int
    bytes_up: int
    seconds: float


def common(comparison: Comparison) -> list[tuple[str, str]]:
    """The cells of (site, task) in which every variation has a figure for every seed, all over the same cases."""
    runs = len(comparison.names) * len(comparison.seeds)
    return [
        cell
        for cell, found in cells(comparison).items()
        if len(found) == runs and len({each.count for each in found.values()}) == 1
    ]


def ranks(comparison: Comparison) -> Ranks:
    """Friedman's ranks in every block, ties shared, and Nemenyi's critical difference (Demsar 2006, JMLR 7, 3.2.2)."""
    found, names = cells(comparison), comparison.names
    rows = []
    for site, task in common(comparison):
        sign = 1.0 if comparison.metric(task) in LOWER_IS_BETTER else -1.0
        rows += [rankdata([sign * found[site, task][name, seed].value for name in names]) for seed in comparison.seeds]
    means = np.mean(rows, axis=0) if rows else []
    return Ranks(
        dict(zip(names, map(float, means), strict=False)), len(rows), critical_difference(len(names), len(rows))
    )


def critical_difference(count: int, blocks: int) -> float:
    """CD = q sqrt(k (k + 1) / (6 N)), q the Studentised range over sqrt(2), for `count` k and `blocks` N; infinite
    where there is nothing to tell apart."""
    if count < 2 or not blocks:
        return math.inf
    q = float(studentized_range.ppf(1 - ALPHA, count, np.inf)) / math.sqrt(2)
    return q * math.sqrt(count * (count + 1) / (6 * blocks))


def summaries(comparison: Comparison) -> list[Summary]:
    """One for each variation, the reference included, whose gains are none."""
    shared = common(comparison)
    lines = site_lines(comparison)
    rank = ranks(comparison).mean
    names = [] if comparison.reference not in comparison.names else comparison.names
    by_site = {site: tuple(task for of, task in shared if of == site) for site, _ in shared}
    found = []
    for name in comparison.names:
        gains = [line.gains[name] for line in lines if name in line.gains]
        of_sites = {
            site: fmean(deltas)
            for site, tasks in by_site.items()
            if (deltas := _deltas_at(comparison, name, site, tasks)) is not None
        }
        costs = [cost for cost in comparison.costs if cost.variation == name]
        found.append(
            Summary(
                name=name,
                cells=len(gains),
                better=sum(gain.mean > 0 for gain in gains),
                worse=sum(gain.mean < 0 for gain in gains),
                clearly_better=sum(gain.clear and gain.mean > 0 for gain in gains),
                clearly_worse=sum(gain.clear and gain.mean < 0 for gain in gains),
                rank=rank.get(name),
                delta=_delta(comparison, name) if names else None,
                worst=min(of_sites.items(), key=lambda each: each[1], default=None),
                sites_gaining=sum(delta > 0 for delta in of_sites.values()),
                sites=len(of_sites),
                bytes_down=sum(cost.bytes_down for cost in costs),
                bytes_up=sum(cost.bytes_up for cost in costs),
                seconds=sum(cost.seconds for cost in costs),
            )
        )
    return found


def delta_tasks(comparison: Comparison) -> list[str]:
    """The tasks that Delta is a mean over: all variations have them, and the reference's figures are not near zero."""
    tasks = []
    for task in comparison.owners:
        means = weighted_means(comparison, task)
        if {name for name, _ in means} == set(comparison.names) and _divides(comparison, task, means):
            tasks.append(task)
    return tasks


def _delta(comparison: Comparison, name: str) -> Average | None:
    """Delta = mean over tasks of (-1)^l (M - M_reference) / |M_reference|, in percent, l = 1 where lower is better."""
    shares = [
        relative[name]
        for task in delta_tasks(comparison)
        if name in (relative := _relative(comparison, task, weighted_means(comparison, task)))
    ]
    return average([fmean(seed) for seed in zip(*shares, strict=True)]) if shares else None


def _deltas_at(comparison: Comparison, name: str, site: str, tasks: tuple[str, ...]) -> list[float] | None:
    """The same for the tasks of one site, seed by seed; None where there is nothing to divide by."""
    found = cells(comparison)
    shares = []
    for task in tasks:
        values = {key: each.value for key, each in found[site, task].items()}
        if _divides(comparison, task, values) and name in (relative := _relative(comparison, task, values)):
            shares.append(relative[name])
    return [fmean(seed) for seed in zip(*shares, strict=True)] if shares else None


def _relative(comparison: Comparison, task: str, values: Mapping[tuple[str, int], float]) -> dict[str, list[float]]:
    """Gains in percent of the reference, seed by seed."""
    against = [abs(values[comparison.reference, seed]) for seed in comparison.seeds]
    return {
        name: [100 * gain / unit for gain, unit in zip(gains, against, strict=True)]
        for name, gains in paired(comparison, task, values).items()
    }


def _divides(comparison: Comparison, task: str, values: Mapping[tuple[str, int], float]) -> bool:
    """Whether the reference's figures can be divided by: kappa, say, may be zero or less."""
    least = TINY if comparison.metric(task) in BOUNDED else 0.0
    against = [values.get((comparison.reference, seed)) for seed in comparison.seeds]
    return all(value is not None and abs(value) > least for value in against)
