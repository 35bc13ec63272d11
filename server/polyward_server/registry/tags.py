"""Tags: names that people give to states and may move, each change an event."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.registry.catalogue import Brought, Made, is_free
from polyward_server.tables import releases, tags
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, validated
from polyward_shared.study import Name


class Tag(Frozen):
    """What may be a tag."""

    tag: Name


def tag(ledger: Ledger, origin: Made | Brought, name: str, *, actor: str, move: bool = False) -> str:
    """Gives the state this name, and returns the state that had it before, or nothing. Raises `Problem` if another has
    it and it is not to be moved."""
    validated({"tag": name}, Tag, where=f"the tag {name!r}")
    is_free(name)
    state = origin.state
    with ledger.engine.begin() as db:
        audit.take_turn(db)
        if db.execute(sa.select(releases.c.name).where(releases.c.name == name)).first():
            raise Problem(repr(name), "is the name of a release", remedy="choose another tag")
        before = db.execute(sa.select(tags.c.encoder).where(tags.c.tag == name)).scalar() or ""
        if before == state:
            return before
        if before and not move:
            raise Problem(repr(name), f"is the tag of {before[:16]} already", remedy="add --move, or choose another")
        db.execute(sa.delete(tags).where(tags.c.tag == name))
        db.execute(tags.insert().values(tag=name, encoder=state, at=_now(), actor=actor))
        detail = f"{name}: {state}" + (f", before {before}" if before else "")
        audit.append(db, event_about(origin, "tagged", detail, actor))
    return before


def untag(ledger: Ledger, name: str, *, actor: str) -> str:
    """Takes the name away from its state, which is returned. Raises `Problem` for a name that is no tag."""
    with ledger.engine.begin() as db:
        audit.take_turn(db)
        state = db.execute(sa.select(tags.c.encoder).where(tags.c.tag == name)).scalar()
        if state is None:
            raise Problem(repr(name), "is no tag here", remedy="polyward-hub encoders HUB shows the tags")
        db.execute(sa.delete(tags).where(tags.c.tag == name))
        audit.append(db, Event("", 0, "", "untagged", f"{name}: {state}", actor))
    return str(state)


def event_about(origin: Made | Brought, what: str, detail: str, actor: str) -> Event:
    """An event of the study that made the state; of none, where it was imported."""
    if isinstance(origin, Made):
        return Event(origin.study, origin.round, "", what, detail, actor)
    return Event("", 0, "", what, detail, actor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
