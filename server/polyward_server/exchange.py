"""One question to many sites, and their answers as they come.

Built on nothing of Flower but `push_messages` and `pull_messages`. Knows which site was asked with which message, so
an answer is attributed to the authenticated node whatever it says. Asks again when a site's gate was restarted, waits
for a site that is away as long as the study allows, and never waits past the deadline once there is a quorum.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from polyward_shared.aggregation import Participation
from polyward_shared.messages import Report
from polyward_shared.problems import Code, Refused
from polyward_shared.wire import REFUSAL, read_refusal, read_report

log = logging.getLogger(__name__)

PULL_SECONDS = 0.02  # between sweeps over the unanswered messages, while answers are near
PULL_SECONDS_IDLE = 0.25  # and after a while
PRESENCE_SECONDS = 1.0  # between looks at who is online
ASKED_AGAIN_AT_MOST = 20  # a site that fails this often in one round is left out of it
WORTH_ASKING_AGAIN = frozenset({Code.STATE_UNKNOWN})  # with the whole state this time


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of a node, in Unix seconds: whether its heartbeat comes, and since when; when its work last came
    further, if that is known."""

    online: bool
    since: float
    progressed: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long sites are waited for: all until the deadline, then those whose work came further within `stall_seconds`,
    nobody longer than `longest_seconds`; one that is away for `rejoin_seconds`."""

    deadline_seconds: float
    rejoin_seconds: float
    stall_seconds: float = 0.0
    longest_seconds: float = math.inf

    @classmethod
    def of(cls, rule: Participation) -> Patience:
        """As the study says."""
        return cls(rule.deadline_seconds, rule.rejoin_seconds, rule.stall_seconds, rule.longest_seconds)

    def is_over(self, waited: float, presence: Presence | None) -> bool:
        """Whether a site that is here has been waited for long enough, after so many seconds."""
        if waited <= self.deadline_seconds:
            return False
        stalled = (
            presence is None or presence.progressed is None or time.time() - presence.progressed > (self.stall_seconds)
        )
        return stalled or waited > self.longest_seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """A report, or the code of a refusal, of one site."""

    site: str
    attempt: int
    report: Report | None
    code: Code | None = None


class Left(Exception):
    """The exchange was left before its end: the study is paused or stopped at once, or this process ends."""


@dataclass(slots=True)
class _Asked:
    site: str
    attempt: int
    since: float  # since when its heartbeat had come; a clock that is set back tells nothing of what came later


class Exchange:
    """The open questions of one step. `ask(site, attempt)` builds the message for a site's n-th attempt; `look` is told
    about every second which of those that are waited for are here and which are away, and says whether to leave."""

    def __init__(
        self,
        grid: Grid,
        presence: Callable[[], Mapping[str, Presence]],
        ask: Callable[[str, int], Message],
        notice: Callable[[str, str, str], None],
        look: Callable[[set[str], set[str]], bool] = lambda *_: False,
    ) -> None:
        self._grid = grid
        self._presence = presence
        self._ask = ask
        self._notice = notice  # (site, what, detail) for the ledger
        self._outlook = look
        self._open: dict[str, _Asked] = {}  # message id -> who was asked
        self._attempts: dict[str, int] = {}
        self._known: Mapping[str, Presence] = {}
        self._lock = threading.Lock()
        self._arrived: queue.Queue[tuple[str, Message] | BaseException] = queue.Queue()
        self._room = threading.Semaphore(1)  # for one reply: the next is not pulled before the last was folded
        self._over = threading.Event()

    def answers(
        self,
        sites: list[str],
        *,
        enough: Callable[[set[str]], bool],
        patience: Patience,
    ) -> Iterator[Answer]:
        """Each site's one answer, in the order of arrival.

        Ends when every site answered; or when patience with all the others is over, and the answers so far are
        `enough`. Raises `Left`.
        """
        waiting = set(sites)
        answered: set[str] = set()
        away_since: dict[str, float] = {}
        began = time.monotonic()
        looked = -PRESENCE_SECONDS
        threading.Thread(target=self._pull, name="pull", daemon=True).start()
        try:
            while waiting:
                now = time.monotonic()
                if now - looked >= PRESENCE_SECONDS:
                    looked = now
                    self._look(waiting, away_since)
                    if self._outlook(waiting - away_since.keys(), waiting & away_since.keys()):
                        raise Left
                here = [s for s in waiting if now - away_since.get(s, now) <= patience.rejoin_seconds]
                expected = [s for s in here if not patience.is_over(now - began, self._known.get(s))]
                if not expected and enough(answered):
                    for site in sorted(waiting):
                        self._notice(site, "missed", "late" if site in here else "away")
                    return
                try:
                    arrived = self._arrived.get(timeout=0.1)
                except queue.Empty:
                    continue
                if isinstance(arrived, BaseException):
                    raise arrived
                answer = self._read(*arrived, waiting)
                del arrived
                if answer is not None:
                    waiting.discard(answer.site)
                    if answer.report is not None:
                        answered.add(answer.site)
                    yield answer
                    del answer
                self._room.release()
        finally:
            self._over.set()

    def refuse(self, site: str, code: Code) -> None:
        """For the caller that finds a report unusable after all."""
        self._notice(site, "misfit", code)

    def _look(self, waiting: set[str], away_since: dict[str, float]) -> None:
        """Asks those who are here and have no open question, or whose gate has started since they were asked."""
        self._known, due = self._presence(), list[str]()
        for site in sorted(waiting):
            presence = self._known.get(site)
            if presence is None or not presence.online:
                if site not in away_since:
                    away_since[site] = time.monotonic()
                    self._notice(site, "away", "")
                continue
            away_since.pop(site, None)
            asked = self._last_asked(site)
            if asked is None or presence.since != asked.since:
                due.append(site)
        self._push([site for site in due if self._attempts.get(site, 0) < ASKED_AGAIN_AT_MOST])

    def _last_asked(self, site: str) -> _Asked | None:
        with self._lock:
            return max((a for a in self._open.values() if a.site == site), key=lambda a: a.attempt, default=None)

    def _push(self, sites: list[str]) -> None:
        """Asks all of them at once: what their orders have in common is uploaded once, before the first can start."""
        if not sites:
            return
        attempts = {site: self._attempts.get(site, 0) + 1 for site in sites}
        since = {site: self._known[site].since for site in sites}  # before: a gate may start again meanwhile
        ids = list(self._grid.push_messages([self._ask(site, attempt) for site, attempt in attempts.items()]))
        for (site, attempt), message_id in zip(attempts.items(), ids, strict=True):
            if not message_id:  # the node has just gone; the next look asks again
                continue
            self._attempts[site] = attempt
            with self._lock:
                self._open[message_id] = _Asked(site, attempt, since[site])
            self._notice(site, "asked", f"attempt {attempt}")

    def _pull(self) -> None:
        """Runs beside `answers`, for a pull may block while a site uploads, and a deadline must not wait for it."""
        last = time.monotonic()
        while self._wait_for_room():
            with self._lock:
                ids = list(self._open)
            try:
                found = list(self._grid.pull_messages(ids)) if ids else []
            except BaseException as error:  # handed to the caller, who decides
                self._arrived.put(error)
                return
            for place, message in enumerate(found):
                last = time.monotonic()
                if place and not self._wait_for_room():
                    return
                self._arrived.put((message.metadata.reply_to_message_id, message))
            if not found:
                self._room.release()
                self._over.wait(PULL_SECONDS if time.monotonic() - last < 60 else PULL_SECONDS_IDLE)

    def _wait_for_room(self) -> bool:
        """True when a reply may be pulled, False when the exchange is over."""
        while not self._over.is_set():
            if self._room.acquire(timeout=0.2):
                return True
        return False

    def _read(self, message_id: str, message: Message, waiting: set[str]) -> Answer | None:
        with self._lock:
            asked = self._open.pop(message_id, None)
        if asked is None or asked.site not in waiting:
            return None
        if message.has_error() and message.error.code != REFUSAL:
            log.info("site %s: Flower's error %s; asking again", asked.site, message.error.code)
            self._notice(asked.site, "lost", f"Flower's error {message.error.code}")
            return self._unanswered(asked, Code.INTERNAL, again=True)
        if message.has_error():
            code = read_refusal(message)
        else:
            try:
                return Answer(asked.site, asked.attempt, read_report(message))
            except Refused as refused:
                log.warning("site %s: %s", asked.site, refused)
                code = refused.code
        self._notice(asked.site, "refused", code)
        return self._unanswered(asked, code, again=code in WORTH_ASKING_AGAIN)

    def _unanswered(self, asked: _Asked, code: Code, *, again: bool) -> Answer | None:
        """The end of one attempt; the end of the site's part too, unless a later attempt is open or will be."""
        later = self._last_asked(asked.site)
        if later is not None and later.attempt > asked.attempt:
            return None
        if again and asked.attempt < ASKED_AGAIN_AT_MOST:
            return None
        return Answer(asked.site, asked.attempt, None, code)
