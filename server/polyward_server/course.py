"""The course of a study: which state may follow which, and who is next. A change and its event are one transaction.

An event that bears a state's name, and no site's, tells that the study is in that state from then on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.records import ENDED, RUNS, Event, State
from polyward_server.tables import rounds, studies
from polyward_shared.problems import Problem
from polyward_shared.study import Study

NEXT: Mapping[State, Collection[State]] = {
    State.DRAFT: (State.QUEUED,),
    State.QUEUED: (State.RUNNING, State.WAITING, State.PAUSED, State.STOPPED, State.FAILED),
    State.WAITING: (State.WAITING, State.RUNNING, State.RESUMING, State.PAUSED, State.STOPPED, State.FAILED),
    State.RUNNING: (State.WAITING, State.RESUMING, State.PAUSED, State.FINISHED, State.STOPPED, State.FAILED),
    State.PAUSED: (State.RESUMING, State.STOPPED),
    State.RESUMING: (State.RUNNING, State.WAITING, State.PAUSED, State.STOPPED, State.FAILED),
    State.FINISHED: (),
    State.STOPPED: (State.QUEUED,),
    State.FAILED: (State.QUEUED,),
}
AT_ONCE = "at once"  # the reason of a study that was paused or stopped without waiting for its round


def enter(db: sa.Connection, study: Study, state: State, *, actor: str = "", extends: str = "") -> Event:
    """A study that the ledger does not know yet, as a draft or in the queue."""
    digest = study.digest()
    audit.take_turn(db)
    db.execute(
        studies.insert().values(
            digest=digest,
            id=study.id,
            text=study.canonical(),
            state=state,
            reason="",
            queued=_now(),
            priority=0,
            extends=extends,
            author=actor,
        )
    )
    event = Event(digest, 0, "", state, f"{study.id}, {study.rounds} rounds", actor)
    audit.append(db, event)
    return event


def change(
    db: sa.Connection,
    digest: str,
    to: State,
    *,
    reason: str = "",
    actor: str = "",
    only_from: Collection[State] | None = None,
) -> Event | None:
    """The study is in this state from now on.

    With `only_from`, nothing happens, and None comes back, unless it is in one of those: a person may have been
    quicker. Otherwise a change that the course does not have raises `Problem`.
    """
    wanted = [State(state) for state in NEXT if to in NEXT[state] and (only_from is None or state in only_from)]
    values = {"state": to, "reason": reason} | ({"queued": _now()} if to is State.QUEUED else {})
    here = (studies.c.digest == digest) & studies.c.state.in_(wanted)
    audit.take_turn(db)
    if not db.execute(studies.update().where(here).values(**values)).rowcount:
        if only_from is not None:
            return None
        raise _impossible(db, digest, to)
    last = db.execute(sa.select(sa.func.max(rounds.c.round)).where(rounds.c.study == digest)).scalar()
    event = Event(digest, last or 0, "", to, reason, actor)
    audit.append(db, event)
    return event


def in_line(db: sa.Connection) -> list[str]:
    """Digests of the studies that a runner takes: those begun first, then by priority, then the longest waiting."""
    place = sa.case({state: place for place, state in enumerate(RUNS)}, value=studies.c.state)
    query = sa.select(studies.c.digest).where(studies.c.state.in_(RUNS))
    return list(db.execute(query.order_by(place, studies.c.priority.desc(), studies.c.queued)).scalars())


def _impossible(db: sa.Connection, digest: str, to: State) -> Problem:
    row = db.execute(sa.select(studies.c.id, studies.c.state).where(studies.c.digest == digest)).first()
    if row is None:
        return Problem(f"study {digest[:12]}", "is not known here", remedy="queue it: polyward-hub run")
    state = State(row.state)
    possible = ", ".join(sorted(set(NEXT[state]) - {state}))
    return Problem(
        f"study {row.id} {digest[:8]}",
        f"is {state}, and cannot become {to}" if state is not to else f"is {state} already",
        expected="" if state is to or not possible else f"one that can: from {state} it can become {possible}",
        remedy="a study that has ended is extended: polyward-hub extend" if state in ENDED else "",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
