"""What the site's policy says to a study: pure functions, for people who decide and for the gate before any work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time

from polyward_client.site import Policy
from polyward_shared.encoders import Custom
from polyward_shared.study import Study


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that the policy asks: whether the study, or the moment, meets it, and that in words."""

    key: str
    met: bool
    words: str


def violations(policy: Policy, study: Study, now: datetime | None, used_hours: float) -> list[str]:
    """Why no work may be done for the study; empty if it may.

    `now` is the local time; None leaves the hours out, for what may be done at any time. `used_hours` is how long the
    study has trained here.
    """
    return [f"policy.{each.key}: {each.words}" for each in points(policy, study, now, used_hours) if not each.met]


def points(policy: Policy, study: Study, now: datetime | None, used_hours: float) -> Iterator[Point]:
    """All that the policy asks of this study, met or not."""
    quorum = study.participation.quorum
    asked = f"a round of this study needs the answers of {quorum}; this site asks for {policy.minimum_sites} or more"
    yield Point("minimum_sites", quorum >= policy.minimum_sites, asked)
    yield Point("minimum_count", True, f"a figure that rests on fewer than {policy.minimum_count} cases stays here")
    if policy.hours:
        met = now is None or within(policy.hours, now.time())
        at = "" if now is None else f"; it is {now:%H:%M}"
        yield Point("hours", met, f"orders are worked on at {', '.join(policy.hours)}, local time{at}")
    if policy.gpu_hours is not None:
        said = f"this study has trained here for {used_hours:.2f} of {policy.gpu_hours:g} hours"
        yield Point("gpu_hours", used_hours < policy.gpu_hours, said)
    if policy.gpu_gigabytes is not None:
        yield Point("gpu_gigabytes", True, f"the trainer takes at most {policy.gpu_gigabytes:g} GB of a GPU's memory")
    if policy.epsilon is not None:
        said = f"a privacy loss of at most {policy.epsilon:g} is asked for, and this study promises none"
        yield Point("epsilon", False, said)
    if isinstance(study.encoder, Custom):
        met = study.encoder.path in policy.encoders
        said = f"{study.encoder.path} is {'' if met else 'not '}among the encoders that this site allows"
        yield Point("encoders", met, said)


def within(windows: Iterable[str], now: time) -> bool:
    """Whether a time of day lies in one of the windows `HH:MM-HH:MM`, which begin at the first minute and end before
    the last one; one that ends before it begins passes midnight, and one without length is the whole day."""
    minute = now.hour * 60 + now.minute
    for window in windows:
        begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in window.split("-"))
        if (minute - begin) % 1440 < ((end - begin) % 1440 or 1440):
            return True
    return False
