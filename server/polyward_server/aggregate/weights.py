"""How much each site's update counts.

`samples`: by distinct labelled training images (a sum over tasks would count an image twice).
`tasks`:   every task has the same say, shared among its owners by their label counts to the power `a`:
           w_i = sum_t pi_t n_it^a / sum_j n_jt^a, with pi_t the tasks' weights of the study.
`uniform`: every site the same.

No site counts for more than `largest_share` of the whole: what it has too much goes to the others in proportion, again
and again, since a single redistribution can lift another site over the cap.

Weights are fixed when a round's orders go out, over the sites that are asked; if one of them does not answer, the
weights of the others keep their proportions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low

from polyward_server.aggregate.fold import WEIGHT_TOTAL
from polyward_shared.schema import BRANCHES
from polyward_shared.study import Study

LARGEST_CLAIM = 20  # times the middle site, the lower of two: hospitals differ, but not without end


@dataclass(frozen=True, slots=True)
class Labels:
    """What a site said of its training images when it joined."""

    samples: int
    counts: Mapping[str, int]


def site_weights(study: Study, group: str, sites: Mapping[str, Labels]) -> dict[str, int]:
    """Integer weights for one group of arrays, one for each site, at least 1, summing to about WEIGHT_TOTAL."""
    shares = capped(_shares(study, group, sites), study.aggregation.largest_share)
    return {site: max(1, int(share * (WEIGHT_TOTAL - len(sites)))) for site, share in shares.items()}


def capped(shares: Mapping[str, float], largest: float) -> dict[str, float]:
    """The shares (each above 0) as parts of 1, none above `largest`; all alike where that leaves no other way."""
    total = math.fsum(shares.values())  # exact, so that the order of the sites is nothing
    found = {site: share / total for site, share in shares.items()}
    if largest * len(found) <= 1:
        return dict.fromkeys(found, 1 / len(found)) if found else {}
    full: set[str] = set()
    while over := {site for site, share in found.items() if site not in full and share > largest}:
        full |= over
        rest = math.fsum(share for site, share in shares.items() if site not in full)
        left = 1 - largest * len(full)
        found = {site: largest if site in full else share / rest * left for site, share in shares.items()}
    return found


def believed(counts: Mapping[str, int]) -> dict[str, float]:
    """Counts that sites claim, none above LARGEST_CLAIM times the middle one: a lie buys no more than that."""
    if not counts:
        return {}
    bound = LARGEST_CLAIM * median_low(counts.values())
    return {site: float(min(count, bound)) for site, count in counts.items()}


def effective_sites(weights: Mapping[str, int]) -> float:
    """1 / sum w_i^2 of weights that sum to 1: how many sites of equal weight would be as many; 0 without any."""
    total, squares = sum(weights.values()), sum(weight**2 for weight in weights.values())
    return total**2 / squares if squares else 0.0


def group_task(group: str) -> str | None:
    """The task of a group of branches, `branches.mask` -> `mask`; None for other groups."""
    first, _, task = group.partition(".")
    return task if first == BRANCHES else None


def _shares(study: Study, group: str, sites: Mapping[str, Labels]) -> dict[str, float]:
    rule = study.aggregation
    if rule.weighting == "uniform":
        return dict.fromkeys(sites, 1.0)
    if (task := group_task(group)) is not None:  # a branch that its owners share
        power = rule.task_exponent if rule.weighting == "tasks" else 1.0
        claims = believed({site: max(1, labels.counts.get(task, 0)) for site, labels in sites.items()})
        return {site: count**power for site, count in claims.items()}
    if rule.weighting == "samples":
        return believed({site: max(1, labels.samples) for site, labels in sites.items()})
    shares = dict.fromkeys(sites, 0.0)
    for task, settings in study.tasks.items():
        claims = believed({site: labels.counts[task] for site, labels in sites.items() if labels.counts.get(task)})
        owners = {site: count**rule.task_exponent for site, count in claims.items()}
        whole = math.fsum(owners.values())
        for site, part in owners.items():
            shares[site] += settings.weight * part / whole
    return {site: max(share, 1e-9) for site, share in shares.items()}
