"""A round in time: what every site did when, how much it sent, and where the deadline lies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from polyward_server.views.picture import Picture, moment
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen

MARGIN = 1.04  # of the time that is shown beyond the last thing known
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800)  # seconds
MOST_TICKS = 7
CLOCKS = timedelta(minutes=1)  # that a site's may be ahead


class PhaseRow(Frozen):
    """One phase of one site's work on the round; `start_seconds` after the round's begin."""

    round: int
    site: str
    phase: str
    start_seconds: float
    seconds: float


class Lane(Frozen):
    """One site in the round."""

    site: str
    outcome: str  # gave, missed, refused, left out, at work, asked, not asked
    detail: str
    phases: tuple[PhaseRow, ...]
    present: str  # the phase at hand, in the open round
    done: int
    of: int
    bytes_down: int | None
    bytes_up: int | None


class Timeline(Frozen):
    """One round, and the others that may be chosen. Seconds count from `began`, the first request or the first work."""

    round: int
    is_open: bool
    choices: tuple[int, ...]  # rounds whose course is known, newest first
    began: datetime | None
    committed_seconds: float | None
    deadline_seconds: float
    length_seconds: float  # of what is drawn
    ticks: tuple[float, ...]
    lanes: tuple[Lane, ...]

    @property
    def rows(self) -> tuple[PhaseRow, ...]:
        return tuple(phase for lane in self.lanes for phase in lane.phases)

    def place(self, seconds: float) -> float:
        """Per cent of the drawn length."""
        return round(min(max(seconds / self.length_seconds, 0), 1) * 100, 2)


def read_timeline(picture: Picture, *, round: str = "") -> Timeline:
    """The round with this number; without one the open round, or else the last. Raises `Problem` for another."""
    opened = picture.opened
    now = picture.last + 1 if opened else picture.last
    known = sorted({*picture.spans, now} - {0}, reverse=True)
    if round and round not in map(str, known):
        raise Problem("round", f"found {round[:20]!r}", expected="one of the last ten rounds")
    chosen = int(round) if round else now
    is_open = opened is not None and chosen == now
    began = _began(picture, chosen)
    committed = next((moment(each.committed) for each in picture.rounds if each.number == chosen and chosen), None)
    ended = (committed - began).total_seconds() if committed and began else None
    lanes = tuple(_lane(picture, site, chosen, began, is_open) for site in picture.sites)
    longest = _longest(picture, lanes, ended)
    return Timeline(
        round=chosen,
        is_open=is_open,
        choices=tuple(known),
        began=began,
        committed_seconds=ended,
        deadline_seconds=picture.study.participation.deadline_seconds,
        length_seconds=longest * MARGIN,
        ticks=_ticks(longest * MARGIN),
        lanes=lanes,
    )


def _began(picture: Picture, number: int) -> datetime | None:
    """The first request of the round, or the first work on it, whichever was earlier: clocks differ a little."""
    asked = [moment(noted.at) for noted, event in picture.told("asked") if event.round == number][:1]
    spans = picture.spans.get(number, {})
    worked = [span.began for site in picture.sites for span in spans.get(site, ())]
    first = [datetime.fromtimestamp(min(worked), UTC)] if worked else []
    if asked and first:
        return max(min(asked[0], first[0]), asked[0] - CLOCKS)  # no site's word makes a round look longer
    return min([*asked, *first], default=None)


def _lane(picture: Picture, site: str, number: int, began: datetime | None, is_open: bool) -> Lane:
    start = began.timestamp() if began else 0.0
    phases = tuple(
        PhaseRow(
            round=number,
            site=site,
            phase=span.phase,
            start_seconds=max(0.0, span.began - start),
            seconds=span.seconds,
        )
        for span in picture.spans.get(number, {}).get(site, ())
    )
    given = next((each for each in picture.given.get(number, ()) if each.site == site), None)
    present, done, of = _present(picture, site, number) if is_open else ("", 0, 0)
    outcome, detail = ("gave", "") if given else _outcome(picture, site, number)
    if is_open and present and outcome in {"asked", "not asked"}:
        outcome = "at work"
    return Lane(
        site=site,
        outcome=outcome,
        detail=detail,
        phases=phases,
        present=present,
        done=done,
        of=of,
        bytes_down=given.bytes_down if given else None,
        bytes_up=given.bytes_up if given else None,
    )


def _outcome(picture: Picture, site: str, number: int) -> tuple[str, str]:
    """What the last event of the round says of a site that gave nothing (yet)."""
    words = {"asked": "asked", "missed": "missed", "refused": "refused", "misfit": "refused", "away": "away"}
    words |= {"reported": "gave", "lost": "asked"}
    for noted in reversed(picture.events):
        event = noted.event
        if 0 < event.round < number:
            break
        if event.site == site and event.round == number and event.what in words:
            return words[event.what], event.detail if event.what in {"missed", "refused", "misfit"} else ""
    return "not asked", ""


def _present(picture: Picture, site: str, number: int) -> tuple[str, int, int]:
    contact = picture.contacts.get(site)
    if contact is None or not contact.connected or contact.status.get("state") != "working":
        return "", 0, 0
    work = contact.status.get("work", {})
    if (work.get("study"), work.get("round")) != (picture.digest, number):
        return "", 0, 0
    return str(work.get("phase", "")), int(work.get("done", 0)), int(work.get("of", 0))


def _longest(picture: Picture, lanes: tuple[Lane, ...], ended: float | None) -> float:
    """Seconds to be drawn: the round as far as it is known; an open one at least as long as the one before took."""
    known = [phase.start_seconds + phase.seconds for lane in lanes for phase in lane.phases]
    if ended is not None:
        known.append(ended)
    else:
        known += [each.seconds for each in picture.rounds[-1:]]
    return max([*known, 1.0])


def _ticks(length: float) -> tuple[float, ...]:
    step = next((each for each in TICKS if length / each <= MOST_TICKS), TICKS[-1])
    return tuple(float(step * place) for place in range(int(length // step) + 1))[: 3 * MOST_TICKS]
