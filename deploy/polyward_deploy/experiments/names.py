"""The experiments that `polyward-sim bench` knows, by the names that people type."""

from __future__ import annotations

from enum import StrEnum


class Experiment(StrEnum):
    """FedRep's linear representation, few digits at each site, and tasks that are related or not."""

    LINEAR = "linear"
    FEW_SAMPLE = "few-sample"
    RELATED = "related"
    FAULTS = "faults"
