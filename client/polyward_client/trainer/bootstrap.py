"""How sure a figure is: an interval from drawing the patients anew, with replacement (Efron and Tibshirani 1993).

The images of one patient resemble each other, so whole patients are drawn (a cluster bootstrap): images drawn one by
one would promise an interval that is too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_PATIENTS = 2  # one patient drawn again and again has no spread

Indices = NDArray[np.int64]
Groups = Sequence[str] | NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Interval = tuple[float, float]


def intervals(
    figures: Callable[[Indices], Mapping[str, float]],
    groups: Groups,
    resamples: int,
    generator: np.random.Generator,
    level: float = 0.95,
) -> dict[str, Interval]:
    """The percentile interval (Efron and Tibshirani 1993, section 13.3) of each figure over n cases, by its name.

    `groups` [n] holds the patient of each case. `figures` is given the places, from 0 to n - 1, of the cases of the
    patients drawn, those of a patient drawn twice standing there twice. It leaves out, or gives NaN for, a figure that
    is undefined there, as AUROC is without positive cases. No interval with fewer than two patients, or for a figure
    that is defined in fewer than half of the draws. A figure that no draw changes has no width.
    """
    patients = _patients(groups)
    count = len(patients.sizes)
    if count < FEWEST_PATIENTS:
        return {}
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        for name, value in figures(patients.cases(generator.integers(count, size=count))).items():
            drawn.setdefault(name, []).append(value)
    found = {name: _percentiles(values, resamples, level) for name, values in drawn.items()}
    return {name: bounds for name, bounds in found.items() if bounds is not None}


@dataclass(frozen=True, slots=True)
class _Patients:
    """Where the cases of each patient are."""

    order: Indices  # [n] the places of all cases, patient after patient
    starts: Indices  # [patients] in `order`
    sizes: Indices  # [patients]

    def cases(self, drawn: Indices) -> Indices:
        """The places of the cases of the patients drawn [k], patient after patient."""
        sizes = self.sizes[drawn]
        ends = sizes.cumsum()
        shifts = np.repeat(self.starts[drawn] - (ends - sizes), sizes)
        places: Indices = self.order[shifts + np.arange(ends[-1])]
        return places


def _patients(groups: Groups | NDArray[Any]) -> _Patients:
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(patient).astype(np.int64)
    return _Patients(np.argsort(patient, kind="stable").astype(np.int64), sizes.cumsum() - sizes, sizes)


def _percentiles(values: Iterable[float], resamples: int, level: float) -> Interval | None:
    found: Floats = np.array([value for value in values if isfinite(value)])
    if not len(found) or 2 * len(found) < resamples:
        return None
    low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
