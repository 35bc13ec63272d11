"""Rules that look for a step which serves every site: coefficients [N] from the Gramian A [N, N] of the changes.

Each site counts alike. The solvers are those with which a site balances its tasks (`polyward_shared.gramian`).
"""

from __future__ import annotations

import numpy as np

from polyward_shared import gramian
from polyward_shared.aggregation import Aggregation
from polyward_shared.gramian import Array


def pcgrad(gram: Array, seed: int) -> Array:
    """The mean of the changes, each without its part against every other that it conflicts with, in random order.

    Yu et al., arXiv 2001.06782, algorithm 1, on changes as they are: brought to unit length, as in some code, they
    would lose what a site has learnt. The order of the projections is drawn from `seed`.
    """
    return gramian.pcgrad(gram, np.random.default_rng(seed)) / len(gram)


def cagrad(gram: Array, c: float) -> Array:
    """The step within c times the mean change's length of the mean change that is best for the worst-off site.

    Liu et al., arXiv 2110.14048, algorithm 1, divided by 1 + c^2 as its authors' code does by default
    (`rescale = 1`), so that the step of a common direction stays about as long as the mean: a lone site moves by
    (1 + c) / (1 + c^2) of its change.
    """
    return gramian.cagrad(gram, c) / (1 + c**2)


def coefficients(rule: Aggregation, gram: Array, seed: int) -> Array:
    """What each site's change counts for [N]; not a share, for projections may add up to more than 1.

    `mgda` is the shortest change in the convex hull of all.
    """
    match rule.rule:
        case "mgda":
            return gramian.mgda(gram)
        case "pcgrad":
            return pcgrad(gram, seed)
        case "cagrad":
            return cagrad(gram, rule.c)
        case _:
            raise ValueError(f"the rule {rule.rule!r} is none over a Gramian")
