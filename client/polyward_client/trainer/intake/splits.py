"""Patients -> train, val and test: by seed, in fractions, and alike in the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from polyward_client.trainer.manifest import SPLITS
from polyward_shared.problems import Problem
from polyward_shared.seeds import seed_for

MOST_STRATA = 20  # distinct values of a column that splits are balanced by; more are measurements
Fractions = tuple[float, float, float]


def parse_fractions(text: str) -> Fractions:
    """`0.7,0.1,0.2`, or any three numbers in that proportion. Raises `Problem`."""
    try:
        train, val, test = (float(part) for part in text.replace("/", ",").split(","))
    except ValueError:
        train = val = test = -1.0
    total = train + val + test
    if not (min(train, val, test) >= 0 and train > 0 and total < 1e9):
        raise Problem("--fractions", f"found {text!r}", expected="three numbers for train, val and test: 0.7,0.1,0.2")
    return train / total, val / total, test / total


def stratum_of(labels: list[str]) -> str:
    """A patient's: the label that most of its images have, empty ones apart; the first in order among equals."""
    counts = Counter(label for label in labels if label)
    return min(counts, key=lambda label: (-counts[label], label)) if counts else ""


def split_patients(strata: Mapping[str, str], fractions: Fractions, seed: int) -> dict[str, str]:
    """Each patient's split, given each one's stratum.

    Patients stand in a row, stratum by stratum, in an order drawn from the seed and their names alone; each goes to the
    split that lacks most of its share so far. So fractions hold in each stratum as in the whole, to about a patient.
    """
    row = sorted(strata, key=lambda patient: (strata[patient], seed_for(seed, "split", patient), patient))
    counts = dict.fromkeys(SPLITS, 0)
    chosen = {}
    for place, patient in enumerate(row, start=1):
        lacks = {name: share * place - counts[name] for name, share in zip(SPLITS, fractions, strict=True) if share}
        split = max(lacks, key=lambda name: (lacks[name], -SPLITS.index(name)))
        chosen[patient], counts[split] = split, counts[split] + 1
    return chosen
