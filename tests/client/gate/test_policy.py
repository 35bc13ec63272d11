"""What the site's policy says to a study, and at which times of the day orders are worked on."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_client.gate.policy import points, violations, within
from polyward_client.site import Policy
from tests.support.toy_trainer import toy_study

NOON = datetime(2026, 3, 1, 12, 0)
STUDY = toy_study()  # its quorum is 2
OWN = toy_study(encoder={"kind": "custom", "path": "ours.nets:Tiny"})


@pytest.mark.parametrize(
    ("policy", "hours", "said"),
    [
        ({"minimum_sites": 3}, 0.0, "policy.minimum_sites: a round of this study needs the answers of 2; this site"),
        ({"hours": ("22:00-06:00",)}, 0.0, "policy.hours: orders are worked on at 22:00-06:00, local time; it is 12"),
        ({"gpu_hours": 2.0}, 2.0, "policy.gpu_hours: this study has trained here for 2.00 of 2 hours"),
        ({"epsilon": 8.0}, 0.0, "policy.epsilon: a privacy loss of at most 8 is asked for, and this study"),
    ],
)
def test_each_rule_is_violated_in_words(policy: dict[str, Any], hours: float, said: str) -> None:
    [found] = violations(Policy(**policy), STUDY, NOON, hours)
    assert found.startswith(said)


@pytest.mark.parametrize(
    "policy", [{}, {"minimum_sites": 2}, {"hours": ("08:00-18:00",)}, {"gpu_hours": 2.0}, {"gpu_gigabytes": 4.0}]
)
def test_what_a_policy_allows(policy: dict[str, Any]) -> None:
    assert violations(Policy(**policy), STUDY, NOON, 1.99) == []
    assert {point.key for point in points(Policy(**policy), STUDY, NOON, 1.99)} >= set(policy)


def test_an_encoder_of_ones_own_is_named_or_refused() -> None:
    [found] = violations(Policy(), OWN, NOON, 0)
    assert found.startswith("policy.encoders: ours.nets:Tiny is not among")
    assert violations(Policy(encoders=("ours.nets:Tiny",)), OWN, NOON, 0) == []


def test_hours_are_no_matter_where_no_moment_is_given() -> None:
    assert violations(Policy(hours=("22:00-06:00",)), STUDY, None, 0) == []


def test_all_violations_are_told_at_once() -> None:
    policy = Policy(minimum_sites=9, epsilon=1.0, gpu_hours=1.0, hours=("00:00-00:01",))
    assert len(violations(policy, STUDY, NOON, 5.0)) == 4


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("08:00-18:00", ["08:00", "17:59"], ["07:59", "18:00", "00:00"]),
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "21:59", "12:00"]),
        ("23:59-00:00", ["23:59"], ["00:00", "23:58"]),
        ("07:30-07:30", ["07:30", "00:00", "07:29"], []),
    ],
)
def test_windows_begin_with_their_first_minute_and_end_before_their_last(
    window: str, inside: list[str], outside: list[str]
) -> None:
    assert [text for text in (*inside, *outside) if within((window,), time.fromisoformat(text))] == inside


@given(st.times(), st.times(), st.times())
def test_a_window_and_the_one_from_its_end_to_its_beginning_make_a_day(begin: time, end: time, now: time) -> None:
    first, second = f"{begin:%H:%M}-{end:%H:%M}", f"{end:%H:%M}-{begin:%H:%M}"
    whole = f"{begin:%H:%M}" == f"{end:%H:%M}"
    assert within((first,), now) + within((second,), now) == (2 if whole else 1)
    assert within((first, second), now)
