"""Hard MaT-FL: sites whose encoders have gone the same way share one, and there are several.

Cai et al., "Many-task federated learning", CVPR Workshops 2023: agglomerative clustering of d_i = theta_i - mean theta,
cosine distance, average linkage. Centring makes the answer the same for states and for changes of a common state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

STILL = 1e-12  # of the largest squared length: what is left of a state that equals the mean


def cluster(gram_of_states: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Labels [N] from inner products of states [N, N]: at most `count` clusters, numbered by their first site."""
    from scipy.cluster.hierarchy import fcluster, linkage  # half a second, which a hub that restarts need not lose
    from scipy.spatial.distance import squareform

    size = len(gram_of_states)
    if size < 2:
        return np.zeros(size, np.int64)
    apart = squareform(_distances(gram_of_states), checks=False)
    found = fcluster(linkage(apart, "average"), count, "maxclust")
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(int(label), len(numbers)) for label in found], np.int64)


def followed(
    labels: Sequence[int] | NDArray[np.int64], sites: Sequence[str], before: Mapping[str, int]
) -> dict[str, int]:
    """The new encoder's number for every site: of `sites` their labels, and of others that `before` names a guess.

    A site that was absent goes with most of its former companions, the lowest number where they are even. Who has none
    here goes with the largest cluster: a newcomer may stand in `before` with a negative number, which makes no company.
    """
    here = {site: int(label) for site, label in zip(sites, labels, strict=True)}
    found = dict(here)
    for site in sorted(before.keys() - here.keys()):
        companions = [here[other] for other in here if before[site] >= 0 and before.get(other) == before[site]]
        found[site] = _commonest(companions or here.values())
    return found


def _commonest(numbers: Iterable[int]) -> int:
    counts = Counter(numbers)
    return min(counts, key=lambda number: (-counts[number], number), default=0)


def _distances(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - cosine of the centred states [N, N]: a state at the mean is 0 from its like, and 1 from all others."""
    rows = gram.mean(1)
    centred = gram - rows[:, None] - rows[None, :] + rows.mean()
    squares = centred.diagonal()
    still = squares <= STILL * max(float(np.abs(gram).max()), np.finfo(np.float64).tiny)
    lengths = np.sqrt(np.where(still, 1, squares))
    apart: NDArray[np.float64] = np.clip(1 - centred / lengths[:, None] / lengths[None, :], 0, 2)
    apart[still, :] = 1
    apart[:, still] = 1
    apart[np.ix_(still, still)] = 0
    np.fill_diagonal(apart, 0)
    return (apart + apart.T) / 2
