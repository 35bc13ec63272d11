"""Which site stands out in a round, and by what. Words for people who look into it; nothing is decided by them.

Three looks: at the updates alone (`aggregate.diagnostics`), at the directions of sites with the very same tasks, and at
the figures of a task that several sites own. A site whose labels are of another unit or the wrong way round trains
well by its own lights, so one update of it may look like any other: figures tell, or many rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

from polyward_server.aggregate.diagnostics import Diagnostics, outliers
from polyward_shared.messages import Metric
from polyward_shared.tasks import LOWER_IS_BETTER, METRICS, Task

FEWEST_PEERS = 3  # to compare directions or figures with
SPREADS = 4.0  # a direction stands out when it is so many spreads from the peers' middle
LEAST_SPREAD = 0.03  # of cosines in one round: a few sites may agree by chance; of means over rounds less
TIMES = 5.0  # a length stands out, or an error, when it is so many times the others' middle
BELOW = 0.3  # a score, when it is so much below
FEWEST_CASES = 20  # behind a score: with fewer, chance alone moves it as far


def standing_out(
    found: Diagnostics,
    norms: Mapping[str, float],
    before: Sequence[Mapping[str, float | None]],
    tasksets: Mapping[str, frozenset[str]],
    tasks: Mapping[str, Task],
    figures: Iterable[tuple[str, Metric]],
) -> dict[str, str]:
    """The sites with their reasons.

    `norms` are the lengths of the updates as they came, of which `found` may know shortened ones; `before` the sites'
    agreements in earlier rounds; `tasksets` the tasks of every site, `figures` the round's.
    """
    reasons: dict[str, list[str]] = {site: [why] for site, why in outliers(found, norms, longest=TIMES).items()}
    for looked in (_directions(found, before, tasksets), _figures(tasks, figures)):
        for site, why in looked.items():
            reasons.setdefault(site, []).append(why)
    return {site: ", ".join(said) for site, said in sorted(reasons.items())}


def _directions(
    found: Diagnostics, before: Sequence[Mapping[str, float | None]], tasksets: Mapping[str, frozenset[str]]
) -> dict[str, str]:
    """Sites whose agreement lies below that of their peers, in the mean over all rounds so far.

    Labels that are the wrong way round turn a site's direction only until its branches have followed them, so one round
    may show little, and many rounds the same little again and again.
    """
    now = {part.site: part.agreement for part in found.parts}
    below: dict[str, list[float]] = {}  # how far a site's agreement lay from its peers' middle, round by round
    for agreements in (*before, now):
        for site, own in agreements.items():
            known = [value for other in _peers(site, agreements, tasksets) if (value := agreements[other]) is not None]
            if own is not None and len(known) >= FEWEST_PEERS:
                below.setdefault(site, []).append(own - median(known))
    means = {site: fmean(values) for site, values in below.items() if now.get(site) is not None}
    odd = {}
    for site, own in means.items():
        peers = [means[other] for other in _peers(site, means, tasksets)]
        if len(peers) < FEWEST_PEERS:
            continue
        middle, rounds = median(peers), len(below[site])
        least = LEAST_SPREAD / math.sqrt(rounds)
        spread = max(least, 1.4826 * median(abs(value - middle) for value in peers))  # of a normal one
        if own < middle - SPREADS * spread:
            odd[site] = f"direction unlike those with the same tasks ({own:+.2f} over {rounds} rounds)"
    return odd


def _peers(site: str, others: Iterable[str], tasksets: Mapping[str, frozenset[str]]) -> list[str]:
    return [other for other in others if other != site and tasksets.get(other) == tasksets.get(site)]


def _figures(tasks: Mapping[str, Task], figures: Iterable[tuple[str, Metric]]) -> dict[str, str]:
    """The first of a site's primary figures that stands out, on whatever split and at whatever stage."""
    alike: dict[tuple[str, str, str], dict[str, Metric]] = {}
    for site, metric in figures:
        if metric.name == METRICS[tasks[metric.task].kind][0]:
            alike.setdefault((metric.task, metric.split, metric.stage), {})[site] = metric
    odd: dict[str, str] = {}
    for rows in alike.values():
        for site, metric in rows.items():
            others = [each.value for other, each in rows.items() if other != site]
            if metric.count < FEWEST_CASES or len(others) < FEWEST_PEERS:
                continue
            middle = median(others)
            if metric.name in LOWER_IS_BETTER:
                stands_out = middle > 0 and metric.value > TIMES * middle
            else:
                stands_out = metric.value < middle - BELOW
            if not stands_out:
                continue
            odd.setdefault(
                site, f"{metric.name} of {metric.task} {metric.value:.3g} ({metric.stage}), others {middle:.3g}"
            )
    return odd
