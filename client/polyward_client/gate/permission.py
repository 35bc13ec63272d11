"""Whether an order may be worked on at this moment: pause, approval, policy. Whatever cannot be read refuses.

Everything is looked up anew each time, so that a pause, a withdrawal or a stricter policy counts at once, also for
work that is under way: while the trainer works, a guard asks again every second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from polyward_client.approvals import Approval, approved_now
from polyward_client.gate.policy import violations
from polyward_client.gate.used import used_hours
from polyward_client.site import Policy, Site, read_site
from polyward_shared.messages import Kind, Order
from polyward_shared.problems import Code, Problem, Refused

LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class Permission:
    """One site's present will. `clock` is the local time."""

    def __init__(self, site: Site, clock: Callable[[], datetime] = datetime.now) -> None:
        self._site = site
        self._clock = clock
        self._policy = site.file.policy
        self._read = self._stamp()

    def check(self, order: Order, worked: float = 0.0) -> tuple[Approval, Policy]:
        """The approval and the policy under which the order may be answered, `worked` seconds after work on it began.

        Raises `Refused`.
        """
        try:
            if self._site.paused.exists():
                raise Refused(Code.PAUSED, "the node is paused; polyward-node resume ends that")
            policy = self._present_policy()
            approval = approved_now(self._site.approved, order.study)
            used = used_hours(self._site, order.study) + worked / 3600
        except (Problem, OSError) as problem:
            raise Refused(Code.POLICY, f"nothing is allowed while this is so: {problem}") from None
        now = None if order.kind is Kind.JOIN else self._clock()
        if refused := violations(policy, approval.study, now, used):
            raise Refused(Code.POLICY, "; ".join(refused))
        return approval, policy

    def _present_policy(self) -> Policy:
        """The site's file says it; a file that has changed is read anew. Raises `Problem`."""
        stamp = self._stamp()
        if stamp != self._read or stamp is None:
            self._policy = read_site(self._site.path, state=self._site.state).file.policy
            self._read = stamp
            log.info("the site's file has changed; its policy holds from now on")
        return self._policy

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            info = self._site.path.stat()
        except OSError:
            return None
        return info.st_mtime_ns, info.st_size, info.st_ino


class Guard:
    """Asks again, while work is under way, whether it is still allowed, and cancels it once it is not.

    `check` gets the seconds since the beginning and raises `Refused`; `refused` is what it raised.
    """

    def __init__(self, check: Callable[[float], object], cancel: Callable[[], None]) -> None:
        self.refused: Refused | None = None
        self._check, self._cancel = check, cancel
        self._ended = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(timeout=LOOK_SECONDS)  # so that nothing of the next order is cancelled

    def _watch(self) -> None:
        """A trainer that has not begun yet does not hear a cancellation, so it is told until the work has ended."""
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self._check(self.seconds)
            except Refused as refused:
                if self.refused is None:
                    log.warning("work under way is cancelled: %s", refused.detail)
                self.refused = refused
            if self.refused is not None:
                self._cancelled()

    def _cancelled(self) -> None:
        try:
            self._cancel()
        except Refused as refused:
            log.warning("the trainer could not be told to stop: %s", refused)
