"""Mistakes that a person can put right, and refusals that may be told to the other side.

A `Problem` is for the person at the keyboard: it says where, what was found, what was expected and what to do.
A `Refused` carries a `Code`: the code may leave a hospital, its detail never does.
"""

from __future__ import annotations

from enum import StrEnum


class Problem(Exception):
    """One mistake in a file, an argument or a machine, with its remedy."""

    def __init__(self, where: str, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.where = where
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.found}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        text = "; ".join(parts)
        return f"{text}\n  what to do: {self.remedy}" if self.remedy else text


class Code(StrEnum):
    """Why a site did not answer an order. These words are all that the hub learns."""

    MALFORMED_ORDER = "malformed-order"
    UNKNOWN_MESSAGE = "unknown-message"
    STUDY_NOT_APPROVED = "study-not-approved"
    WITHDRAWN = "withdrawn"
    PAUSED = "paused"
    STATE_UNKNOWN = "state-unknown"
    STATE_MISMATCH = "state-mismatch"
    POLICY = "policy"
    DATA = "data"
    OUT_OF_MEMORY = "out-of-memory"
    DISK = "disk"
    TRAINER_DIED = "trainer-died"
    TRAINING_FAILED = "training-failed"
    EGRESS_SCHEMA = "egress-schema"
    EGRESS_NOT_FINITE = "egress-not-finite"
    EGRESS_NORM = "egress-norm"
    EGRESS_METRIC = "egress-metric"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


class Refused(Exception):
    """An order that will not be answered. `detail` is for the local log only."""

    def __init__(self, code: Code, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}" if detail else str(code))
