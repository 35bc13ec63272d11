"""What earlier lines of the sent-ledger mean for the next order."""

from __future__ import annotations

from typing import Any

import pytest

from polyward_client.gate.lines import Answered
from polyward_client.leaving import STATES_OF_A_ROUND
from polyward_shared.messages import Kind, Order
from polyward_shared.problems import Refused

OLD, NEW = "2026-01-01T00:00:00.000+00:00", "2026-02-01T00:00:00.000+00:00"


def line(number: int, state: str = "s", *, at: str = NEW, study: str = "d", **changes: Any) -> dict[str, Any]:
    plain = {"at": at, "what": "report", "kind": "train.round", "study": study, "round": number, "state": state}
    return {**plain, **changes}


def order(number: int, state: str = "s", kind: Kind = Kind.TRAIN) -> Order:
    return Order(kind=kind, study="d", round=number, state_digest=state)


def test_a_study_goes_forward_and_repeats_its_last_round() -> None:
    answered = Answered([line(1), line(2)])
    for number in (2, 3, 9):
        answered.check(order(number), OLD)
    with pytest.raises(Refused, match="round 1 after round 2 was answered"):
        answered.check(order(1), OLD)
    with pytest.raises(Refused, match="round 1 after round 2 was answered"):
        answered.check(order(1, kind=Kind.FINISH), OLD)


def test_other_studies_refusals_and_joins_do_not_count() -> None:
    others = [
        line(5, study="e"),
        {"at": NEW, "what": "refusal", "code": "data", "kind": "train.round", "study": "d", "round": 7},
        line(0, kind="query.join"),
        {"at": NEW, "what": "control", "bytes": 9},
    ]
    Answered(others).check(order(1), OLD)


def test_approved_again_a_study_begins_anew() -> None:
    answered = Answered([line(3, at=OLD)])
    with pytest.raises(Refused):
        answered.check(order(1), OLD)
    answered.check(order(1), NEW)


def test_one_round_is_answered_from_few_states_only() -> None:
    answered = Answered(line(2, str(number)) for number in range(STATES_OF_A_ROUND))
    with pytest.raises(Refused, match=f"round 2 from a state after {STATES_OF_A_ROUND} others"):
        answered.check(order(2, "another"), OLD)
    for number in range(STATES_OF_A_ROUND):
        answered.check(order(2, str(number)), OLD)
    answered.check(order(3, "another"), OLD)
    fewer = Answered(line(2, str(number)) for number in range(STATES_OF_A_ROUND - 1))
    fewer.check(order(2, "another"), OLD)
