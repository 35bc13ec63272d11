"""What people do to studies. The command line and the dashboard both call these; `actor` is who did it.

Each is one transaction with its event. What the study's course does not allow raises `Problem`.
"""

from __future__ import annotations

import sqlalchemy as sa

from polyward_server import audit, course
from polyward_server.commands import order
from polyward_server.ledger import Ledger
from polyward_server.records import ENDED, Event, State
from polyward_server.tables import approvals, studies
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.study import Study

HIGHEST = 1000  # priority


def draft(ledger: Ledger, study: Study, actor: str, *, extends: str = "") -> str:
    """Keeps a study for sites to approve; nothing is asked of anybody until it is queued. Returns its digest."""
    digest = study.digest()
    with ledger.engine.begin() as db:
        audit.take_turn(db)
        if (known := _state(db, digest)) is not None:
            raise Problem(f"study {study.id} {digest[:8]}", f"is here already, and {known}")
        course.enter(db, study, State.DRAFT, actor=actor, extends=extends)
    return digest


def discard(ledger: Ledger, digest: str, actor: str) -> None:
    """Forgets a draft."""
    with ledger.engine.begin() as db:
        audit.take_turn(db)
        here = (studies.c.digest == digest) & (studies.c.state == State.DRAFT)
        if not db.execute(sa.delete(studies).where(here)).rowcount:
            raise Problem(f"study {digest[:8]}", "is no draft", expected="a draft: what was queued once is kept")
        db.execute(sa.delete(approvals).where(approvals.c.study == digest))
        audit.append(db, Event(digest, 0, "", "discarded", "", actor))


def enqueue(ledger: Ledger, study: Study, actor: str) -> str:
    """Puts a study into the queue: a new one, a draft, or one that was stopped or failed, which goes on after its last
    round. One that is on its way stays as it is. Returns its digest."""
    digest = ledger.queue(study, actor=actor)
    if ledger.study_state(digest)[0] == State.PAUSED:
        raise Problem(f"study {study.id} {digest[:8]}", "is paused", remedy="resume it: polyward-hub resume")
    return digest


def pause(ledger: Ledger, digest: str, actor: str, *, now: bool = False) -> None:
    """After the round under way the study rests, and others have their turn. `now`: that round is left, and sites are
    asked to end their work on it; what they have finished is kept there."""
    _halt(ledger, digest, State.PAUSED, actor, now=now)


def resume(ledger: Ledger, digest: str, actor: str) -> None:
    """A paused study goes on, before those that have not begun."""
    if not ledger.set_state(digest, State.RESUMING, actor=actor, only_from=(State.PAUSED,)):
        raise Problem(f"study {digest[:8]}", f"is {ledger.study_state(digest)[0]}", expected="one that is paused")


def stop(ledger: Ledger, digest: str, actor: str, *, now: bool = False) -> None:
    """As `pause`, but for good, unless it is queued again."""
    _halt(ledger, digest, State.STOPPED, actor, now=now)


def prioritise(ledger: Ledger, digest: str, priority: int, actor: str) -> None:
    """Of studies that wait for their turn, those of a higher priority are first."""
    if abs(priority) > HIGHEST:
        raise Problem("priority", f"found {priority}", expected=f"a number from {-HIGHEST} to {HIGHEST}")
    with ledger.engine.begin() as db:
        audit.take_turn(db)
        if (state := _state(db, digest)) is None or state in ENDED:
            raise Problem(
                f"study {digest[:8]}", "does not stand in line", remedy="polyward-hub queue shows those that do"
            )
        db.execute(studies.update().where(studies.c.digest == digest).values(priority=priority))
        audit.append(db, Event(digest, 0, "", "prioritised", str(priority), actor))


def to_the_front(ledger: Ledger, digest: str, actor: str) -> None:
    """Nobody who waits is before this study."""
    with ledger.engine.connect() as db:
        others = sa.select(sa.func.max(studies.c.priority)).where(
            studies.c.state == State.QUEUED, studies.c.digest != digest
        )
        highest = db.execute(others).scalar() or 0
    prioritise(ledger, digest, min(highest + 1, HIGHEST), actor)


def extension(ledger: Ledger, digest: str, rounds: int) -> Study:
    """A new study of so many rounds that begins with the encoder that this one ended with.

    What sites approve binds the number of rounds, so that nobody adds any to a study that was approved; they approve
    the new one: keep it with `draft(..., extends=digest)`. Every site's own branches begin anew, from the seed.
    """
    study, last = ledger.study(digest), ledger.last_round(digest)
    if last is None or last.number == 0:
        raise Problem(f"study {study.id}", "has no round yet that could be gone on from")
    if study.aggregation.traits.encoders != "one":
        raise Problem(
            f"study {study.id}",
            f"its sites hold different encoders by the rule {study.aggregation.rule!r}",
            expected="a study with one encoder for all",
        )
    settings = study.model_dump(mode="json")
    settings["id"] = _successor(study.id)
    settings["rounds"] = rounds
    settings["encoder"]["start"] = last.state
    return validated(settings, Study, where=f"the extension of {study.id}")


def _halt(ledger: Ledger, digest: str, to: State, actor: str, *, now: bool) -> None:
    state, _ = ledger.study_state(digest)
    at_once = now or state == State.WAITING  # then there is no work under way that one could wait for
    ledger.set_state(digest, to, course.AT_ONCE if at_once else "", actor=actor)
    if now:
        for site in ledger.members(digest):
            order(ledger, site, "cancel", digest)


def _state(db: sa.Connection, digest: str) -> str | None:
    return db.execute(sa.select(studies.c.state).where(studies.c.digest == digest)).scalar()


def _successor(name: str) -> str:
    """breast, breast-2, breast-3."""
    stem, dash, number = name.rpartition("-")
    if dash and number.isdigit() and 2 <= int(number) < 10_000:
        return f"{stem}-{int(number) + 1}"
    return f"{name[:58]}-2"
