"""How much each site's update counts.

`samples`: by distinct labelled training images (a sum over tasks would count an image twice).
`tasks`:   every task has the same say, shared among its owners by their label counts to the power `a`:
           w_i = sum_t pi_t n_it^a / sum_j n_jt^a, with pi_t the tasks' weights of the study.
`uniform`: every site the same.

Weights are fixed when a round's orders go out, over the sites that are asked; if one of them does not answer, the
weights of the others keep their proportions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyward_server.aggregate.fold import WEIGHT_TOTAL
from polyward_shared.schema import ENCODER
from polyward_shared.study import Study


@dataclass(frozen=True, slots=True)
class Labels:
    """What a site said of its training images when it joined."""

    samples: int
    counts: Mapping[str, int]


def site_weights(study: Study, group: str, sites: Mapping[str, Labels]) -> dict[str, int]:
    """Integer weights for one group of arrays, one for each site, at least 1, summing to about WEIGHT_TOTAL."""
    shares = _shares(study, group, sites)
    total = sum(shares.values())
    return {site: max(1, int(share / total * (WEIGHT_TOTAL - len(sites)))) for site, share in shares.items()}


def _shares(study: Study, group: str, sites: Mapping[str, Labels]) -> dict[str, float]:
    rule = study.aggregation
    if rule.weighting == "uniform":
        return dict.fromkeys(sites, 1.0)
    if group != ENCODER:  # a branch that its owners share
        task = group.partition(".")[2]
        return {site: float(max(1, labels.counts.get(task, 0))) for site, labels in sites.items()}
    if rule.weighting == "samples":
        return {site: float(max(1, labels.samples)) for site, labels in sites.items()}
    shares = dict.fromkeys(sites, 0.0)
    for task, settings in study.tasks.items():
        owners = {
            site: labels.counts[task] ** rule.task_exponent for site, labels in sites.items() if labels.counts.get(task)
        }
        whole = sum(owners.values())
        for site, part in owners.items():
            shares[site] += settings.weight * part / whole
    return {site: max(share, 1e-9) for site, share in shares.items()}
