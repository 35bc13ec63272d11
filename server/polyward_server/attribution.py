"""Which site stands out in a round, and by what. Words for people who look into it; nothing is decided by them.

Three looks: at the updates alone (`aggregate.diagnostics`), at the directions of sites with the very same tasks, and at
the figures of a task that several sites own. A site whose labels are of another unit or the wrong way round trains
well by its own lights, so its update may look like any other: then only the figures tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from polyward_server.aggregate.diagnostics import Diagnostics, outliers
from polyward_shared.messages import Metric
from polyward_shared.tasks import LOWER_IS_BETTER, METRICS, Task

FEWEST_PEERS = 3  # others to compare with
SPREADS = 4.0  # a direction stands out when it is so many spreads from the peers' middle
LEAST_SPREAD = 0.03  # of cosines: a few sites may agree by chance
TIMES = 5.0  # an error stands out when it is so many times the others' middle
BELOW = 0.3  # a score, when it is so much below
FEWEST_CASES = 20  # behind a score: with fewer, chance alone moves it as far


def standing_out(
    found: Diagnostics,
    tasksets: Mapping[str, frozenset[str]],
    tasks: Mapping[str, Task],
    figures: Iterable[tuple[str, Metric]],
) -> dict[str, str]:
    """The sites with their reasons; `figures` are the round's, `tasksets` the tasks of every site."""
    reasons: dict[str, list[str]] = {site: [why] for site, why in outliers(found).items()}
    for looked in (_directions(found, tasksets), _figures(tasks, list(figures))):
        for site, why in looked.items():
            reasons.setdefault(site, []).append(why)
    return {site: ", ".join(said) for site, said in sorted(reasons.items())}


def _directions(found: Diagnostics, tasksets: Mapping[str, frozenset[str]]) -> dict[str, str]:
    agreements = {part.site: part.agreement for part in found.parts if part.agreement is not None}
    odd = {}
    for site, own in agreements.items():
        peers = [value for other, value in agreements.items() if other != site and tasksets[other] == tasksets[site]]
        if len(peers) < FEWEST_PEERS:
            continue
        middle = median(peers)
        spread = max(LEAST_SPREAD, 1.4826 * median(abs(value - middle) for value in peers))  # of a normal one
        if own < middle - SPREADS * spread:
            odd[site] = f"direction unlike those with the same tasks ({own:.2f}, they {middle:.2f})"
    return odd


def _figures(tasks: Mapping[str, Task], figures: list[tuple[str, Metric]]) -> dict[str, str]:
    """The worst of a site's primary figures that stand out, on whatever split and at whatever stage."""
    odd: dict[str, str] = {}
    for site, metric in figures:
        if metric.name != METRICS[tasks[metric.task].kind][0] or metric.count < FEWEST_CASES:
            continue
        key = (metric.task, metric.split, metric.stage, metric.name)
        others = [m.value for s, m in figures if s != site and (m.task, m.split, m.stage, m.name) == key]
        if len(others) < FEWEST_PEERS:
            continue
        middle = median(others)
        if metric.name in LOWER_IS_BETTER:
            stands_out = middle > 0 and metric.value > TIMES * middle
        else:
            stands_out = metric.value < middle - BELOW
        if stands_out:
            odd.setdefault(
                site, f"{metric.name} of {metric.task} {metric.value:.3g} ({metric.stage}), others {middle:.3g}"
            )
    return odd
