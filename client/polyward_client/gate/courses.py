"""How the work on the last few rounds went: which phase came when, for people who watch it at the hub.

Phases are words of `control.proto`, times are milliseconds by a clock that is never set back. Nothing else is kept.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from polyward_client.port.interface import Progress
from polyward_shared.protos import control_pb2 as pb

RECENT = 8  # rounds that are told again on a new connection; more than end between two looks
MOST_SPANS = 32  # of one round; the newest are kept
OLDEST = 6 * 86400.0  # seconds; the hub takes a week
MOST = 2**32 - 1  # of a number on this plane; orders and trainers may say more
PHASES = {"loading": pb.LOADING, "checking": pb.CHECKING, "tune": pb.TUNING, "final": pb.TUNING, "beside": pb.BESIDE}


@dataclass
class Course:
    """One round of one study: phases that are over, each with its begin and end in seconds of the clock."""

    number: int
    study: str
    round: int
    spans: deque[tuple[pb.Phase, float, float]] = field(default_factory=lambda: deque(maxlen=MOST_SPANS))
    ended: int = 0  # phases, in all

    def timings(self, now: float) -> pb.Timings:
        """What the hub is told, with times from the begin of the first phase on."""
        spans = [span for span in self.spans if now - span[1] < OLDEST]
        first = spans[0][1] if spans else now
        told = [pb.Span(phase=phase, start_ms=_ms(began - first), ms=_ms(end - began)) for phase, began, end in spans]
        return pb.Timings(study=self.study, round=self.round, age_ms=_ms(now - first) + 1, spans=told)


class Courses:
    """The work at hand and the last few rounds. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._work = pb.Work()
        self._since: float | None = None  # begin of the present phase; None while there is no work
        self._present: Course | None = None
        self._recent: deque[Course] = deque(maxlen=RECENT)
        self._number = 0

    def arrives(self) -> None:
        """An order is announced; which, its content will say."""
        with self._lock:
            self._end()
            self._enter(pb.FETCHING)

    def begins(self, study: str, number: int) -> None:
        """The order is here. One about the same round as the last one, such as a repeated one, continues its course."""
        with self._lock:
            if self._since is None:
                self._enter(pb.FETCHING)
            self._work.study, self._work.round = study, min(number, MOST)
            last = self._recent[-1] if self._recent else None
            if study and (last is None or (last.study, last.round) != (study, self._work.round)):
                self._number += 1
                last = Course(self._number, study, self._work.round)
                self._recent.append(last)
            self._present = last if study else None

    def progress(self, progress: Progress) -> None:
        """The work came further. Neither loss nor the phase's own name is kept, only its kind."""
        phase = pb.MEASURING if progress.phase.startswith("measuring") else PHASES.get(progress.phase, pb.TRAINING)
        with self._lock:
            self._enter(phase)
            self._work.done, self._work.of = (min(max(each, 0), MOST) for each in (progress.epoch, progress.epochs))

    def sends(self) -> None:
        """The reply is on its way."""
        with self._lock:
            self._enter(pb.SENDING)

    def ends(self) -> None:
        """The order is answered, or was lost on the way."""
        with self._lock:
            self._end()

    def work(self) -> pb.Work:
        """The work at hand; `OTHER` and no study while there is none."""
        with self._lock:
            work = pb.Work()
            work.CopyFrom(self._work)
            return work

    def news(self, told: Mapping[int, int]) -> Iterator[tuple[int, int, pb.Timings]]:
        """Each course of which more phases are over than `told` says: its number, how many, and what to tell."""
        with self._lock:
            return iter(
                [
                    (course.number, course.ended, course.timings(self._clock()))
                    for course in self._recent
                    if course.ended > told.get(course.number, 0)
                ]
            )

    def _enter(self, phase: pb.Phase) -> None:
        if self._since is not None and self._work.phase == phase:
            return
        self._close()
        self._since = self._clock()
        self._work.phase, self._work.done, self._work.of = phase, 0, 0

    def _close(self) -> None:
        if self._since is not None and self._present is not None:
            self._present.spans.append((self._work.phase, self._since, self._clock()))
            self._present.ended += 1

    def _end(self) -> None:
        self._close()
        self._work, self._since, self._present = pb.Work(), None, None


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
